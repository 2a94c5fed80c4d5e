"""``genctl inspect-curves``: plot a run's log and say what is seen in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genctl.cli import options
from genctl.cli.output import emit, note

if TYPE_CHECKING:
    from genctl.report.curves import Curves
    from genctl.report.diagnosis import Diagnosis


def inspect_curves(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Runs, RUN@step, or metrics.jsonl files.")
    ],
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Default: RUN/reports/curves.png."),
    ] = None,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Plot curves and diagnose them: what is wrong, the evidence, what to try."""
    from genctl.engine.ending import ending_of
    from genctl.engine.run_directory import RunDirectory
    from genctl.report.curves import read_curves
    from genctl.report.diagnosis import diagnose
    from genctl.report.places import require_writable

    if plot is not None:
        require_writable(plot, "--plot")
    read = [read_curves(run) for run in runs]
    found = [diagnose(curves) for curves in read]
    for curves in read:
        for text in curves.notes:
            note(f"note: {curves.run}: {text}")
    written = _plot(read, found, plot)
    endings = [
        ending_of(RunDirectory(c.folder))
        if c.folder is not None
        and os.path.exists(os.path.expanduser(c.run))  # not as it was at a step
        else None
        for c in read
    ]
    payloads = [
        diagnosis.as_dict() | ({} if ending is None else {"stopped_by": ending.by})
        for diagnosis, ending in zip(found, endings, strict=True)
    ]
    for run, ending in zip(runs, endings, strict=True):
        if ending is not None and ending.by != "steps":
            note(f"note: {run}: stopped at step {ending.step:,}: {ending.words}")
    text = "" if json_output else _text(read, found, written, quiet)
    emit(payloads[0] if len(runs) == 1 else {"runs": payloads}, json_output, text)
    return 0


def _plot(read: list[Curves], found: list[Diagnosis], chosen: Path | None) -> list[Path]:
    """One picture where it was asked for, else one in the reports of every run."""
    from genctl.report.curves import plot

    if chosen is not None:
        plot(chosen, read, [diagnosis.spans for diagnosis in found])
        return [chosen]
    written = []
    for curves, diagnosis in zip(read, found, strict=True):
        if curves.folder is None:
            continue  # a log alone has no place for reports
        path = curves.folder / "reports" / "curves.png"
        try:
            plot(path, [curves], [diagnosis.spans])
        except OSError as error:  # a run that may only be read can still be diagnosed
            note(f"warning: {path}: {error.strerror or error}; --plot FILE writes elsewhere")
        else:
            written.append(path)
    return written


def _text(read: list[Curves], found: list[Diagnosis], written: list[Path], quiet: bool) -> str:
    import shutil
    import sys

    from genctl.report.chart import render

    lines = []
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    for curves, diagnosis in zip(read, found, strict=True):
        if not quiet:
            lines += [render([curves], width, sys.stdout.isatty()), ""]
        lines.append(f"{diagnosis.run}: {diagnosis.verdict}")
        for finding in diagnosis.findings:
            lines.append(f"  {finding.kind} (confidence {finding.confidence:.2f})")
            lines.append(f"    seen: {finding.evidence}")
            if finding.remedy:
                lines.append(f"    try:  {finding.remedy}")
        lines.append("")
    lines += [f"plot: {path}" for path in written]
    return "\n".join(lines).rstrip()
