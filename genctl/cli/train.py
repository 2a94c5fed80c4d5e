"""``genctl train``: parse, resolve the configuration, fit, say what to do next."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genctl import started
from genctl.cli import options
from genctl.cli.output import emit, note
from genctl.errors import GenctlError, NonFiniteError, UsageError

if TYPE_CHECKING:
    from genctl.config.schema import RunConfig
    from genctl.engine.loop import FitResult
    from genctl.report.scores import RunScorer


def train(
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME|FILE", help="What to train.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SPEC", help="Folder, archive, npz, mnist:ROOT, toy:ring."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Default: runs/<preset>-<n>.")
    ] = None,
    overrides: options.Set = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps in all.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same run.")] = None,
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    precision: options.Precision = None,
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile the networks.")
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option("--max-time", metavar="10m", help="Save and stop after 90s, 10m, 2h."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Go on where a run stopped; no other flag."),
    ] = None,
    resume_or_start: Annotated[
        bool, typer.Option("--resume-or-start", help="With --out: resume if a run is there.")
    ] = False,
    init: Annotated[
        Path | None, typer.Option("--init", metavar="RUN", help="Start from a run's weights.")
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only deterministic kernels; slower on a GPU.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")
    ] = False,
    download: options.Download = False,
    strict_data: options.StrictData = False,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Train a preset on your images, with sample grids as it goes."""
    changes = _changes(overrides, steps, seed, batch_size, precision, compile_, deterministic)
    if resume is not None and (out is not None or init is not None):
        flag = "--out" if out is not None else "--init"
        raise UsageError(flag, f"--resume {resume} goes on where it is", f"leave {flag} out")
    if resume_or_start and out is None:
        raise UsageError("--resume-or-start", "needs --out RUN", "--out runs/NAME")
    if resume is None and not resume_or_start and preset is None:
        raise UsageError("train", "nothing to train", "--preset NAME, or --resume RUN")
    _budget(max_time)  # a mistake in it is found before any work

    from genctl.engine import distributed
    from genctl.engine.loop import require_finite
    from genctl.engine.progress import reporter
    from genctl.engine.run_directory import RunDirectory
    from genctl.report.scores import RunScorer, fit

    scores: dict[str, Any] = {}
    with distributed.processes(device):
        config, at, out = distributed.together(
            lambda: _planned(preset, data, out, changes, resume, resume_or_start)
        )
        if dry_run:
            return distributed.together(
                lambda: _dry_run(config, data, out, device, download, strict_data, json_output)
            )
        if at == "latest" and out is not None and _finished(out, config):
            text = f"{out} already has its {config.train.steps} steps; --steps N goes on further"
            if config.evaluate.measures and config.data.spec and not _scored(out):
                text += f"\nscores: {_evaluation(out, config)}"
            emit(_finished_payload(out, config), json_output, text)
            return 0
        scorer = RunScorer(config, device, None if quiet else note)
        result = fit(
            config,
            data,
            out,
            device=device,
            resume=at,
            init=init,
            max_seconds=_budget(max_time),
            download=download,
            strict_data=strict_data,
            report=reporter(quiet),
            scorer=scorer,
        )
        config = scorer.config = RunDirectory(result.run).config()
        if config.evaluate.measures and result.stopped_by in ("steps", "patience"):
            scores = _scores(scorer, result)
    payload = {
        "run": str(result.run),
        "step": result.step,
        "images": result.images,
        "seconds": round(result.seconds, 3),
        "stopped_by": result.stopped_by,
        "last": dict(result.last),
    }
    if result.best is not None:
        step, value = result.best
        payload["best"] = {"step": step, "measure": config.evaluate.best, "value": value}
    try:
        require_finite(result)
    except NonFiniteError as error:
        if not json_output:
            raise
        emit({**payload, "error": error.as_dict()}, json_output, "")
        return error.exit_code
    text = _next_commands(config, payload)
    if scores:
        payload["metrics"] = scores
        listed = ", ".join(f"{name} {value}" for name, value in _brief(scores).items())
        if listed:
            text = f"{listed} ({config.evaluate.features} features)\n{text}"
    emit(payload, json_output, text)
    return 130 if result.stopped_by == "signal" else 0


def _planned(
    preset: str | None,
    data: str | None,
    out: Path | None,
    changes: list[str],
    resume: str | None,
    resume_or_start: bool,
) -> tuple[RunConfig, str | None, Path | None]:
    """What the command is to train.

    Returns:
        The configuration; the checkpoint to go on from, if that is wanted; and the run, None where
        the first free place will do.
    """
    from genctl.config.load import load_config
    from genctl.config.resume import continued
    from genctl.engine.belonging import require_kept
    from genctl.engine.run_directory import RunDirectory, split_address

    if resume_or_start and out is not None and RunDirectory(out).exists():
        resume = str(out)
    if resume is not None:
        path, at = split_address(resume)
        former = RunDirectory(path).config()
        require_kept(former, path, at)
        return continued(former, preset, changes, data, str(path)), at or "latest", path
    if preset is None:
        raise UsageError("train", "nothing to train", "--preset NAME, or --resume RUN")
    config = load_config(preset, changes)
    if out is not None:
        RunDirectory(out).refuse_if_taken()
    return config, None, out


def _changes(
    overrides: list[str] | None,
    steps: int | None,
    seed: int | None,
    batch_size: int | None,
    precision: str | None,
    compile_: bool | None,
    deterministic: bool,
) -> list[str]:
    """``--set`` first, then the dedicated options, which win."""
    dedicated = {
        "train.steps": steps,
        "train.seed": seed,
        "train.batch_size": batch_size,
        "train.precision": precision,
        "train.compile": None if compile_ is None else str(compile_).lower(),
        "train.deterministic": "true" if deterministic else None,
    }
    return [
        *(overrides or []),
        *(f"{path}={value}" for path, value in dedicated.items() if value is not None),
    ]


def _budget(max_time: str | None) -> float | None:
    """Seconds left of ``--max-time``, which counts from the start of the process."""
    if max_time is None:
        return None
    from genctl.config.schema import seconds_of

    try:
        return max(0.0, seconds_of(max_time) - (time.monotonic() - started))
    except ValueError as error:
        raise UsageError("--max-time", str(error), "--max-time 10m") from None


def _finished(out: Path, config: RunConfig) -> bool:
    from genctl.engine import checkpoint
    from genctl.engine.log import MetricsFile
    from genctl.engine.scoring import owes_last

    known = checkpoint.steps(out / "checkpoints")
    if not known or known[-1] < config.train.steps:
        return False
    return not owes_last(MetricsFile(out / "metrics.jsonl"), config.evaluate, known[-1])


def _finished_payload(out: Path, config: RunConfig) -> dict[str, Any]:
    from genctl.engine.construction import read_checkpoint
    from genctl.engine.log import MetricsFile

    found = read_checkpoint(out)
    return {
        "run": str(out),
        "step": found.step,
        "images": found.state["images"],
        "seconds": round(found.state["seconds"], 3),
        "stopped_by": "steps",
        "last": MetricsFile(out / "metrics.jsonl").last(),
    }


def _dry_run(
    config: RunConfig,
    data: str | None,
    out: Path | None,
    device: str,
    download: bool,
    strict: bool,
    json_output: bool,
) -> int:
    """The resolved configuration, the data found, parameter counts, where the run would go."""
    from genctl.config.load import to_yaml
    from genctl.engine.belonging import sketch
    from genctl.engine.claim import next_free
    from genctl.engine.construction import build_model, check_players
    from genctl.engine.device import pick_device
    from genctl.engine.fit import complete, open_data

    dataset = open_data(config, data, download=download, strict=strict)
    where = pick_device(device)
    config = complete(config, dataset, data, where)
    out = out or next_free(config.preset or "run")
    model = sketch(config) or build_model(config)
    check_players(config, model)
    counts = {
        name: sum(p.numel() for m in modules for p in model.get_submodule(m).parameters())
        for name, modules in model.players.items()
    }
    payload = {
        "config": config.model_dump(mode="json"),
        "data": dataset.source,
        "parameters": counts,
        "run": str(out),
        "device": str(where),
    }
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    text = f"{to_yaml(config)}\ndata: {dataset.source}\nparameters: {listed}\nrun: {out} on {where}"
    emit(payload, json_output, text)
    for warning in dataset.warnings:
        note(f"warning: {warning}")
    return 0


def _scores(scorer: RunScorer, result: FitResult) -> dict[str, Any]:
    """The measures the preset asks for when training is done."""
    try:
        found: dict[str, Any] = scorer.last(result.run, result.step)["metrics"]
    except GenctlError as error:  # the training is done and kept; its score can be taken again
        note(f"warning: no score: {error}; {error.remedy}")
        return {}
    return found


def _brief(metrics: dict[str, Any]) -> dict[str, str]:
    """One number a measure."""
    keys = ("value", "mean", "covered")
    shown = {
        name: next((found[key] for key in keys if key in found), None)
        for name, found in metrics.items()
    }
    return {name: format(value, ".4g") for name, value in shown.items() if value is not None}


def _evaluation(run: Path, config: RunConfig) -> str:
    """The command that takes the scores that the configuration asks for."""
    from genctl.metrics.measure import table

    asked = config.evaluate
    words = ["genctl", "evaluate", str(run), str(config.data.spec), "--features", asked.features]
    words += dict.fromkeys(f"--{table()[name].flag}" for name in asked.measures)
    return shlex.join([*words, *(["-n", str(asked.n)] if asked.n else [])])


def _scored(run: Path) -> bool:
    """Whether the last checkpoint was scored on the way."""
    from genctl.engine import checkpoint
    from genctl.engine.log import MetricsFile

    last = checkpoint.newest(run / "checkpoints")
    return any(step == last for step, _ in MetricsFile(run / "metrics.jsonl").scores(""))


def _next_commands(config: RunConfig, payload: dict[str, Any]) -> str:
    """How the run ended, and what to do next with it."""
    from genctl.engine.pointers import pointed

    run = payload["run"]
    lines = [
        f"{run}: step {payload['step']}, {payload['images']:,} images, "
        f"{payload['seconds']:.0f} s, stopped by {payload['stopped_by']}",
        "next:",
    ]
    if payload["stopped_by"] == "patience":
        more = 2 * (config.evaluate.patience or 1)
        lines.append(f"  genctl train --resume {run} --set evaluate.patience={more}")
    elif payload["stopped_by"] != "steps":
        lines.append(f"  genctl train --resume {run}")
    from genctl.config.catalogue import model_capabilities

    able = model_capabilities(config.model["kind"])
    if "best" in payload:
        best = payload["best"]
        lines[0] += f"; best {best['measure']} {best['value']:.4g} at step {best['step']}"
        if pointed(Path(run) / "checkpoints", "best") == best["step"]:
            lines[0] += f": {run}@best"
    if "sample" in able:
        lines.append(f"  genctl sample {run} -n 64 --seed 0 --out {run}/grid.png")
    if "interpolate" in able:
        lines.append(f"  genctl interpolate {run} --steps 10 --rows 6 --out {run}/walk.png")
    lines.append(f"  genctl inspect-curves {run}")
    lines.append(f"  genctl report {run}")
    if able and set(able) & {"sample", "log_likelihood"}:
        lines.append(f"  genctl evaluate {run} {config.data.spec} --features pixels")
    return "\n".join(lines)
