"""``genctl report``: one self-contained page about a run, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genctl.cli import options
from genctl.cli.output import emit, note
from genctl.printable import size_in_words


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Runs, or RUN@step.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Default: RUN/reports/report.html; for several runs, report.html here.",
        ),
    ] = None,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Write one HTML file that opens anywhere: curves, diagnosis, samples by step, scores."""
    from genctl.report.run_page import write_report

    result = write_report(runs, out)
    for run in result["runs"] if not quiet else []:
        for text in run["notes"]:
            note(f"note: {run['run']}: {text}")
    lines = [f"{run['run']}: {run['verdict']}" for run in result["runs"]]
    lines.append(f"page: {result['out']} ({size_in_words(result['bytes'])})")
    emit(result, json_output, "\n".join(lines))
    return 0
