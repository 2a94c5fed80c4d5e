"""``genctl study``: train and measure a list of runs, and bring them into one table and plot."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genctl.cli import options
from genctl.cli.output import conclude, emit, note

if TYPE_CHECKING:
    from genctl.study.conduct import Options
    from genctl.study.directory import StudyDirectory
    from genctl.study.plan import Study


def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A study's YAML file.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="STUDY", help="Default: runs/study-<file>.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    overrides: options.Set = None,
    device: options.Device = "auto",
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and list the runs; write nothing.")
    ] = False,
    download: options.Download = False,
    strict_data: options.StrictData = False,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Compare runs over seeds: one table and one plot. The same command goes on after a stop."""
    from genctl.study.check import check
    from genctl.study.conclude import as_text, conclude_study
    from genctl.study.conduct import Options, conduct
    from genctl.study.directory import StudyDirectory
    from genctl.study.plan import read_study

    dedicated = {"train.precision": precision, "train.batch_size": batch_size}
    more = [f"{path}={value}" for path, value in dedicated.items() if value is not None]
    planned = read_study(file, [*(overrides or []), *more])
    directory = StudyDirectory(out or Path("runs") / f"study-{planned.name}")
    directory.refuse_if_foreign()
    directory.refuse_changed(planned)
    if not quiet:
        note(f"checking {len(planned.trials)} runs")
    check(planned, str(file), device=device, download=download, strict=strict_data)
    settings = Options(jobs, device, download, strict_data)
    if dry_run:
        return _dry_run(planned, directory, settings, json_output)
    with directory.lock():
        directory.begin(planned)
        stopped_by = conduct(planned, directory, settings, _silent if quiet else note)
        payload = conclude_study(planned, directory, stopped_by)
    if stopped_by == "signal":
        payload.pop("error", None)
        left = f"{payload['left']} runs left; the same command goes on"
        emit(payload, json_output, f"{as_text(planned, payload)}\nstopped by a signal: {left}")
        return 130
    return conclude(payload, json_output, as_text(planned, payload))


def _dry_run(
    planned: Study, directory: StudyDirectory, settings: Options, json_output: bool
) -> int:
    """Every run with its command, and what is done already."""
    from genctl.study.conduct import train_command

    rows = []
    for trial in planned.trials:
        words = train_command(planned, directory, trial, settings)
        known = directory.read(trial)
        rows.append(
            {
                "run": trial.name,
                "entry": trial.entry,
                "settings": dict(trial.settings),
                "seed": trial.seed,
                "state": "left" if known is None else known.get("state"),
                "command": shlex.join(["genctl", *words]),
            }
        )
    text = "\n".join(f"{row['state']:<6}  {row['run']}\n        {row['command']}" for row in rows)
    payload = {"study": str(directory.path), "runs": rows}
    emit(payload, json_output, f"{text}\n{len(rows)} runs in {directory.path}")
    return 0


def _silent(text: str) -> None:
    """Nothing."""
