"""``genctl evaluate --human`` and ``--human-results``: people as the measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from genctl.cli.output import conclude, emit, note
from genctl.engine.launch import launched_rank
from genctl.errors import UsageError
from genctl.printable import size_in_words


def one_or_none(others: Sequence[str] | None) -> str | None:
    """The one REAL of a measurement; only ``--human-results`` takes more arguments.

    Raises:
        UsageError: there are more.
    """
    if others and len(others) > 1:
        raise UsageError(
            others[1], "one thing too many", "genctl evaluate GENERATED [REAL]; results: --compare"
        )
    return others[0] if others else None


def alone(measures: Sequence[str], human: bool, human_results: bool, seconds: float | None) -> None:
    """Asking people is a command of its own.

    Raises:
        UsageError: it is mixed with another.
    """
    mode = "--human" if human else "--human-results" if human_results else ""
    if human and human_results:
        raise UsageError("--human", "writes a page, --human-results reads answers", "one of them")
    if seconds is not None and not human:
        raise UsageError("--seconds", "says how long a page shows a picture", "--human")
    if measures:
        reason = f"cannot be taken together with {mode}"
        raise UsageError(f"--{measures[0]}", reason, "measure in a call of its own")


def write_page(
    generated: str,
    real: str | None,
    out: Path | None,
    *,
    n: int | None,
    seconds: float | None,
    seed: int,
    size: int | Literal["native"],
    device: str,
    precision: str | None,
    batch_size: int | None,
    raw_weights: bool,
    download: bool,
    strict: bool,
    quiet: bool,
    json_output: bool,
) -> int:
    """Write the page that asks people; of several processes the first one does.

    The arguments are those of ``genctl evaluate``.
    """
    if launched_rank():
        return 0
    if real is None:
        remedy = "genctl evaluate --human RUN REAL --out page.html"
        raise UsageError("--human", "half of the pictures must be real", remedy)
    if out is None:
        raise UsageError("--human", "needs a file to write", "--out page.html")
    from genctl.report.human import DEFAULT_N, Request, write_human_page

    request = Request(
        generated,
        real,
        DEFAULT_N if n is None else n,
        seconds,
        seed,
        size,
        device,
        precision,
        batch_size,
        raw_weights,
        download,
        strict,
    )
    result = write_human_page(request, out)
    limit = "" if result["shown_seconds"] is None else f", each for {result['shown_seconds']:g} s"
    lines = [
        f"{out}: {result['n']} pictures, half of them real{limit} "
        f"({size_in_words(result['bytes'])})"
    ]
    if not quiet:
        lines += [
            "open it in a browser; it saves the answers as a file, and sends nothing. Then:",
            "  genctl evaluate --human-results FILE…",
        ]
    emit(result, json_output, "\n".join(lines))
    return 0


def judge_answers(
    files: Sequence[str], require: Sequence[str], out: Path | None, json_output: bool
) -> int:
    """Say how often generated pictures were taken for real ones."""
    if launched_rank():
        return 0
    from genctl.report.human_results import evaluate_answers

    result = evaluate_answers(files, require, out)
    for warning in result["warnings"]:
        note(f"warning: {warning}")
    return conclude(result, json_output, _text(result))


def _text(result: dict[str, Any]) -> str:
    """Pooled first, then each file."""
    human = result["metrics"]["human"]
    lines = [f"{human['sittings']} file(s) of answers, {result['protocol']['interval']}"]
    rows = [("pooled", human)]
    if len(result["files"]) > 1:
        rows += [(entry["file"], entry) for entry in result["files"]]
    for name, entry in rows:
        lines += [
            f"  {name}",
            f"    fooling rate {_share(entry['value'], entry['interval'])} "
            f"of {entry['n_generated']} generated called real",
            f"    accuracy     {_share(entry['accuracy'], entry['accuracy_interval'])} "
            f"of {entry['n_generated'] + entry['n_real']} answers",
        ]
    for gate in result["gates"]:
        lines.append(f"  {'met' if gate['met'] else 'NOT MET':<9} {gate['require']}")
    return "\n".join(lines)


def _share(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or interval is None:
        return "none"
    return f"{value:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"
