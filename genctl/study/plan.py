"""A study's file, and the trials that it asks for.

A study is a YAML file::

    runs:                                    # what is compared, by name
      d-inner: {preset: gan-modes, set: {model.play.discriminator: 10}}
      g-inner: {preset: gan-modes, set: {model.play.generator: 10}}
    data: "toy:modes?modes={modes}&manifold={manifold}"
    vary:                                    # one sweep, or a list of them
      - {modes: [16, 64, 256], manifold: [2]}
      - {modes: [16], manifold: [2, 16, 128]}
    seeds: [0, 1, 2]
    set: {train.steps: 1000}                 # of every run; a run's own `set` wins
    max_time: 60s                            # of each training
    evaluate: {measures: [modes], n: 2500}
    plot: {y: modes.covered / modes.total}

A name in ``vary`` with a dot is a key of the configuration. One without is put in the place of
``{name}`` wherever it stands in ``data`` and ``set``. A sweep is every combination of its values.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from genctl import registry
from genctl.config import presets
from genctl.config.schema import PlainName, Section, seconds_of
from genctl.errors import ConfigError, UsageError
from genctl.printable import is_printable

Scalar = str | int | float | bool | None
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Settings = dict[str, Any]

MAX_TRIALS = 10_000
"""More than this is a slip of the pen."""

_VARIABLE = re.compile(r"\{([A-Za-z_]\w*)\}")
_LONGEST_NAME = 100


def _time(value: str | None) -> str | None:
    if value is not None:
        seconds_of(value)
    return value


class RunEntry(Section):
    """One of the things that are compared."""

    preset: str  # a preset's name, or a YAML file beside the study's
    set: Settings = Field(default_factory=dict)
    data: str | None = None
    seeds: Seeds | None = None


class EvaluateEntry(Section):
    """What is measured when a training is done; nothing by default."""

    measures: list[str] = Field(default_factory=list)
    real: str | None = None  # a data SPEC; by default what was trained on
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    features: str | None = None


class PlotEntry(Section):
    """What is drawn: a metric, or a ratio of two written ``a / b``, against a varied key."""

    y: str | Annotated[list[str], Field(min_length=1)] | None = None
    x: str | None = None  # by default the first key of a sweep with more than one value


Axes = dict[str, Annotated[list[Scalar], Field(min_length=1)]]


class StudyFile(Section):
    """The file as it is written."""

    about: dict[str, Any] = Field(default_factory=dict)
    runs: Annotated[dict[str, RunEntry], Field(min_length=1)]
    seeds: Seeds = Field(default_factory=lambda: [0])
    set: Settings = Field(default_factory=dict)
    data: str | None = None
    vary: Axes | list[Axes] = Field(default_factory=dict)
    max_time: Annotated[str | None, AfterValidator(_time)] = None
    evaluate: EvaluateEntry = EvaluateEntry()
    plot: PlotEntry = PlotEntry()
    name: PlainName = None


@dataclass(frozen=True)
class Trial:
    """One training with its evaluation.

    Attributes:
        name: its folder; says entry, settings and seed.
        entry: the name of what is compared.
        settings: the values of the varied keys.
        seed: of the training.
        preset: a preset's name or the path of a file.
        changes: ``path=value`` overrides, as ``train --set`` takes them.
        data: the data SPEC, or None for the preset's own.
        real: what it is measured against, or None for what it is trained on.
    """

    name: str
    entry: str
    settings: Mapping[str, Scalar]
    seed: int
    preset: str
    changes: tuple[str, ...]
    data: str | None
    real: str | None

    @property
    def group(self) -> tuple[str, str]:
        """What it has in common with the trials of other seeds."""
        return self.entry, json.dumps(dict(self.settings), sort_keys=True)

    @property
    def where(self) -> str:
        """Entry and settings in words, for messages."""
        return " ".join([self.entry, *(f"{key}={value}" for key, value in self.settings.items())])


@dataclass(frozen=True)
class Sweep:
    """One panel of the plot: the trials over every combination of some keys' values."""

    axes: Mapping[str, Sequence[Scalar]]
    x: str | None  # None when nothing varies


@dataclass(frozen=True)
class Study:
    """A validated study.

    Attributes:
        name: the file's stem, or the name it gives itself.
        text: the file's text.
        file: its content.
        sweeps: one for each panel.
        trials: every training once, in the order they are made.
    """

    name: str
    text: str
    file: StudyFile
    sweeps: Sequence[Sweep]
    trials: Sequence[Trial]

    @property
    def metrics(self) -> list[str]:
        """What is plotted."""
        y = self.file.plot.y
        return [] if y is None else [y] if isinstance(y, str) else list(y)

    @property
    def max_seconds(self) -> float | None:
        """Of one training."""
        return None if self.file.max_time is None else seconds_of(self.file.max_time)


def read_study(path: Path, changes: Sequence[str] = ()) -> Study:
    """Read a study's file and list its trials.

    Args:
        path: the YAML file.
        changes: ``path=value`` overrides of every trial, from the command line; they win.

    Raises:
        UsageError: there is no such file.
        ConfigError: every problem of the file itself; presets and data are not opened here.
    """
    try:
        text = presets.read_text(path)
    except FileNotFoundError:
        raise UsageError(str(path), "no such file", "give the YAML file of a study") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None
    node = presets.parse(text, str(path))
    values, problems = registry.validate(StudyFile, _aliased(node), "")
    if problems:
        raise ConfigError(str(path), sorted(_readable(problems)), "see examples/mode_collapse.yaml")
    file = StudyFile.model_validate(values)
    problems = _problems(file)
    if problems:
        raise ConfigError(str(path), problems, "see examples/mode_collapse.yaml")
    listed = [file.vary] if isinstance(file.vary, dict) else file.vary or [{}]
    sweeps = [Sweep(axes, _horizontal(axes, file.plot.x)) for axes in listed]
    trials = list(_trials(file, sweeps, path, changes))
    return Study(file.name or path.stem, text, file, sweeps, trials)


def variables(text: str) -> set[str]:
    """The names that stand in braces."""
    return set(_VARIABLE.findall(text))


def _aliased(node: dict[str, Any]) -> dict[str, Any]:
    """``runs`` may be a list of presets' names, when there is nothing else to say of them."""
    runs = node.get("runs")
    if isinstance(runs, list) and all(isinstance(run, str) for run in runs):
        return {**node, "runs": {Path(run).stem: {"preset": run} for run in runs}}
    return node


def _readable(problems: Sequence[str]) -> list[str]:
    """Pydantic tells of every alternative of ``vary`` and ``y``; one line of each is enough."""
    shorter = [re.sub(r"\.(dict|list)\[[^\s:]*(?=[.:])", "", problem) for problem in problems]
    return list(dict.fromkeys(shorter))


def _problems(file: StudyFile) -> list[str]:
    """What the schema cannot see."""
    problems = []
    for name in file.runs:
        if not is_printable(name) or not name.strip(". ") or set("/\\") & set(name):
            problems.append(f"runs.{name}: a name must be a plain file name")
    axes = [file.vary] if isinstance(file.vary, dict) else file.vary
    varied = {key for sweep in axes for key in sweep}
    used: set[str] = set()
    for place, text in _texts(file):
        used |= variables(text)
        for name in sorted(variables(text) - varied):
            near = registry.suggest(name, sorted(key for key in varied if "." not in key))
            problems.append(f"{place}: {{{name}}} is not varied{near}")
    for i, sweep in enumerate(axes):
        where = "vary" if isinstance(file.vary, dict) else f"vary.{i}"
        for key, values in sweep.items():
            if "." not in key and key not in used:
                reason = f"{{{key}}} stands nowhere in data or set"
                problems.append(f"{where}.{key}: neither a key of the configuration, and {reason}")
            if len({json.dumps(value) for value in values}) < len(values):
                problems.append(f"{where}.{key}: a value is given twice")
        missing = {key for key in used & varied if key not in sweep}
        problems += [f"{where}: gives no value for {{{key}}}" for key in sorted(missing)]
        if file.plot.x is not None and file.plot.x not in sweep:
            near = registry.suggest(file.plot.x, sorted(sweep))
            problems.append(f"plot.x: {file.plot.x!r} is not varied in {where}{near}")
    total = sum(_size(sweep) for sweep in axes or [{}])
    seeds = sum(len(run.seeds or file.seeds) for run in file.runs.values())
    if total * seeds > MAX_TRIALS:
        problems.append(f"vary: {total * seeds:,} trainings, more than {MAX_TRIALS:,}")
    for place, seeds_given in [("seeds", file.seeds)] + [
        (f"runs.{name}.seeds", run.seeds or []) for name, run in file.runs.items()
    ]:
        if len(set(seeds_given)) < len(seeds_given):
            problems.append(f"{place}: a seed is given twice")
    return problems


def _size(axes: Mapping[str, Sequence[Scalar]]) -> int:
    size = 1
    for values in axes.values():
        size *= len(values)
    return size


def _texts(file: StudyFile) -> list[tuple[str, str]]:
    """Where variables may stand, with the text."""
    found = [("data", file.data), ("evaluate.real", file.evaluate.real)]
    found += [(f"runs.{name}.data", run.data) for name, run in file.runs.items()]
    found += [(f"set.{key}", value) for key, value in file.set.items()]
    for name, run in file.runs.items():
        found += [(f"runs.{name}.set.{key}", value) for key, value in run.set.items()]
    return [(place, text) for place, text in found if isinstance(text, str)]


def _horizontal(axes: Mapping[str, Sequence[Scalar]], wanted: str | None) -> str | None:
    """The key along which a sweep is drawn."""
    longer = [key for key, values in axes.items() if len(values) > 1]
    return wanted or next(iter([*longer, *axes]), None)


@dataclass
class _Names:
    """Folder names that tell entry, settings and seed, each given once."""

    taken: set[str] = field(default_factory=set)

    def name(self, entry: str, settings: Mapping[str, Scalar], seed: int) -> str:
        words = [entry, *(f"{key.split('.')[-1]}-{value}" for key, value in settings.items())]
        whole = "-".join([*words, f"seed-{seed}"])
        plain = re.sub(r"[^\w.+-]+", "_", whole)
        if plain in self.taken or plain != whole or len(plain) > _LONGEST_NAME:
            address = json.dumps([entry, dict(settings), seed])
            digest = hashlib.blake2b(address.encode(), digest_size=4).hexdigest()
            plain = f"{plain[: _LONGEST_NAME - 9]}-{digest}"
        self.taken.add(plain)
        return plain


def _trials(
    file: StudyFile, sweeps: Sequence[Sweep], path: Path, changes: Sequence[str]
) -> Sequence[Trial]:
    """Every training once; a seed after the other, so that a study cut short has whole curves."""
    names = _Names()
    found: dict[tuple[str, str, int], Trial] = {}
    longest = max(len(run.seeds or file.seeds) for run in file.runs.values())
    for turn, sweep in itertools.product(range(longest), sweeps):
        for values in itertools.product(*sweep.axes.values()):
            settings = dict(zip(sweep.axes, values, strict=True))
            for entry, run in file.runs.items():
                seeds = run.seeds or file.seeds
                if turn >= len(seeds):
                    continue
                key = (entry, json.dumps(settings, sort_keys=True), seeds[turn])
                if key not in found:
                    name = names.name(entry, settings, seeds[turn])
                    found[key] = _trial(
                        file, run, name, entry, settings, seeds[turn], path, changes
                    )
    return list(found.values())


def _trial(
    file: StudyFile,
    run: RunEntry,
    name: str,
    entry: str,
    settings: Mapping[str, Scalar],
    seed: int,
    path: Path,
    changes: Sequence[str],
) -> Trial:
    def filled(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if (whole := _VARIABLE.fullmatch(value)) is not None and whole[1] in settings:
            return settings[whole[1]]  # alone, a number stays a number
        return _VARIABLE.sub(lambda m: str(settings.get(m[1], m[0])), value)

    asked = {**file.set, **run.set, **{key: v for key, v in settings.items() if "." in key}}
    own = [f"{key}={json.dumps(filled(value))}" for key, value in asked.items()]
    beside = path.parent / run.preset
    is_file = run.preset not in presets.paths() and beside.suffix in (".yaml", ".yml")
    data = run.data or file.data
    return Trial(
        name,
        entry,
        settings,
        seed,
        str(beside.absolute()) if is_file else run.preset,
        (*own, *changes),
        None if data is None else str(filled(data)),
        None if file.evaluate.real is None else str(filled(file.evaluate.real)),
    )
