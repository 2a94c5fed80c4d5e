"""What a run directory says about a run, read without its weights and without trust."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genctl.config import presets
from genctl.config.load import flatten, load_config
from genctl.config.schema import RunConfig
from genctl.engine.ending import KEY, Ending, ending_of
from genctl.engine.run_directory import RunDirectory, split_address
from genctl.errors import GenctlError
from genctl.printable import printable
from genctl.reading import read_limited
from genctl.report.anatomy import build_example, parameter_counts
from genctl.report.curves import Curves, read_curves
from genctl.report.diagnosis import Diagnosis, diagnose
from genctl.report.previews import BUDGET, Previews, read_previews
from genctl.report.recorded_scores import Result, read_results

_LARGEST_ENVIRONMENT = 2**20
MOST_KEYS = 1000
"""Shown of a configuration or an environment."""
_LONGEST = 300  # characters of a value in a table
_STEP = re.compile(r"\d{1,15}")


@dataclass(frozen=True)
class Setting:
    """One key of the configuration; ``usual`` is the preset's value where the run's differs."""

    key: str
    value: str
    usual: str | None


@dataclass(frozen=True)
class RunFacts:
    """Everything a page tells of one run.

    Attributes:
        address: as it was asked for.
        name: the folder's.
        config: the resolved configuration.
        parameters: trainable numbers of each player.
        trainable: all of them, those that players share once.
        commands: what each does, and the command line.
        settings: the configuration as dotted keys.
        environment: versions, device and the like.
        step: the last one that was logged.
        images: real examples consumed by then.
        seconds: of training until then.
        end: why it ended there, as far as the run says.
        curves: the log.
        diagnosis: what is seen in it.
        previews: samples by step.
        results: recorded scores.
        notes: what was odd.
    """

    address: str
    name: str
    config: RunConfig
    parameters: dict[str, int]
    trainable: int
    commands: list[tuple[str, str]]
    settings: list[Setting]
    environment: list[tuple[str, str]]
    step: int
    images: float
    seconds: float
    end: str
    curves: Curves
    diagnosis: Diagnosis
    previews: Previews
    results: list[Result]
    notes: list[str]


def read_facts(address: str, share: int = 1) -> RunFacts:
    """Read a run.

    Args:
        address: ``RUN`` or ``RUN@step``; then nothing later is shown.
        share: runs on the same page, which divide the room for pictures.

    Raises:
        DataError: no run, or a damaged one.
        UsageError: an address that names no step.
    """
    path, at = split_address(address)
    run = RunDirectory(path)
    config = run.config()
    curves = read_curves(address)
    until = None if at is None else _step_of(at, curves)
    environment, notes = _environment(run)
    settings = _settings(config)
    if len(settings) > MOST_KEYS:
        notes.append(f"the first {MOST_KEYS:,} of {len(settings):,} keys of the configuration")
    results, odd = read_results(run, until)
    step = int(curves.step[-1]) if len(curves) else 0
    parameters, trainable = _parameters(config, notes)
    return RunFacts(
        address=printable(address),
        name=printable(path.resolve().name),
        config=config,
        parameters=parameters,
        trainable=trainable,
        commands=_commands(path, environment),
        settings=settings[:MOST_KEYS],
        environment=[
            (printable(key), _shown(value))
            for key, value in environment.items()
            if key != "command" and not key.startswith(f"{KEY}.")
        ],
        step=step,
        images=_last(curves, "images"),
        seconds=_last(curves, "seconds"),
        end=_end(config, curves, step, at, ending_of(run)),
        curves=curves,
        diagnosis=diagnose(curves),
        previews=read_previews(run, until, BUDGET // share),
        results=results,
        notes=[*(printable(note, 400) for note in curves.notes), *notes, *odd],
    )


def _step_of(at: str, curves: Curves) -> int:
    """The step of an address that was found good when the curves were read."""
    if _STEP.fullmatch(at):
        return int(at)
    return int(curves.step[-1]) if len(curves) else 0


def _environment(run: RunDirectory) -> tuple[dict[str, Any], list[str]]:
    try:
        data = read_limited(run.path / "environment.json", _LARGEST_ENVIRONMENT)
        flat = dict(list(flatten(json.loads(data.decode("utf-8"))).items())[:MOST_KEYS])
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"environment.json was left out: {printable(error)}"]
    return flat, []


def _parameters(config: RunConfig, notes: list[str]) -> tuple[dict[str, int], int]:
    """Trainable numbers of each player, and of all together."""
    if config.found is None:
        notes.append("parameters were not counted: config.yaml lacks the facts of the data")
        return {}, 0
    try:
        model = build_example(config, config.found.spec())
    except (GenctlError, RuntimeError, ValueError, TypeError, LookupError, MemoryError) as error:
        notes.append(f"parameters were not counted: {printable(error)}")
        return {}, 0
    owned = {name for modules in model.players.values() for name in modules}
    weights = {id(p): p.numel() for n in owned for p in model.get_submodule(n).parameters()}
    return parameter_counts(model), sum(weights.values())


def _commands(path: Path, environment: dict[str, Any]) -> list[tuple[str, str]]:
    """The command that was typed, and those that do the same with what is here."""
    found = []
    typed = environment.get("command")
    if isinstance(typed, list) and "train" in typed[1:2] and all(isinstance(w, str) for w in typed):
        line = " ".join(shlex.quote(word) for word in ["genctl", *typed[1:]])
        found.append(("What was typed", printable(line, 4000)))
    again = ["genctl", "train", "--preset", str(path / "config.yaml"), "--out"]
    found.append(
        ("The same run again, from its own configuration", _line([*again, f"{path}-again"]))
    )
    found.append(("Samples of it", _line(["genctl", "sample", str(path), "--seed", "0"])))
    return found


def _line(words: Sequence[str]) -> str:
    return printable(shlex.join(words), 4000)


def _settings(config: RunConfig) -> list[Setting]:
    """Every key, and where the shipped preset of that name has another value."""
    mine = flatten(config.model_dump(mode="json"))
    usual: dict[str, Any] = {}
    if config.preset in presets.paths():
        try:
            usual = flatten(load_config(config.preset).model_dump(mode="json"))
        except GenctlError:
            usual = {}
    rows = []
    for key, value in mine.items():
        facts = key.startswith(("about.", "found.")) or key in ("preset", "about", "found")
        differs = bool(usual) and not facts and usual.get(key) != value
        rows.append(
            Setting(printable(key), _shown(value), _shown(usual.get(key)) if differs else None)
        )
    return rows


def _end(
    config: RunConfig, curves: Curves, step: int, at: str | None, ending: Ending | None
) -> str:
    """Why it ended where it did; only what the run directory can tell."""
    steps = config.train.steps
    if step >= steps:
        return f"all of its {steps:,} steps are done"
    if at is not None:
        return f"shown as it was at {printable(at)}"
    if ending is not None:
        return f"at step {ending.step:,} of {steps:,}: {ending.words}"
    if step and step in curves.nonfinite:
        return f"numbers that are not finite at step {step:,} of {steps:,}"
    return (
        f"at step {step:,} of {steps:,}; no end is recorded, so it is still training, was killed, "
        "or is of an older genctl"
    )


def _last(curves: Curves, key: str) -> float:
    column = curves.get(key)
    return 0.0 if column is None else float(column[column == column][-1])


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return printable(", ".join(str(item) for item in value[:64]), _LONGEST)
    return printable(value, _LONGEST)
