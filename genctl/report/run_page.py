"""``genctl report``: one self-contained page for a run, or one that sets several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genctl.engine.run_directory import RunDirectory, split_address
from genctl.errors import UsageError
from genctl.report import page, score_pictures, vector_curves
from genctl.report.run_facts import RunFacts, read_facts

MOST_RUNS = 12
"""On one page: more columns are read by nobody. A study's table takes any number."""


def write_report(addresses: Sequence[str], out: Path | None = None) -> dict[str, Any]:
    """Write the page.

    Args:
        addresses: runs, ``RUN`` or ``RUN@step``.
        out: where; by default in the reports of a single run, and ``report.html`` in the working
            folder for several.

    Returns:
        The object that ``genctl report --json`` prints.

    Raises:
        DataError: one is no run, or a damaged one.
        UsageError: too many runs, or another file in the way.
    """
    if len(addresses) > MOST_RUNS:
        raise UsageError(
            f"{len(addresses)} runs",
            f"one page takes at most {MOST_RUNS}",
            "report fewer; `genctl study` compares any number",
        )
    runs = [read_facts(address, len(addresses)) for address in addresses]
    if out is None and len(runs) == 1:
        out = RunDirectory(split_address(addresses[0])[0]).reports / "report.html"
    out = out or Path("report.html")
    text = render(runs)
    page.write(out, text)
    return {
        "out": str(out),
        "bytes": len(text.encode("utf-8")),
        "runs": [
            {
                "run": run.address,
                "step": run.step,
                "verdict": run.diagnosis.verdict,
                "previews": len(run.previews.pictures),
                "scores": sum(len(result.scores) for result in run.results),
                "notes": [*run.notes, *run.previews.notes],
            }
            for run in runs
        ],
    }


def render(runs: Sequence[RunFacts]) -> str:
    """The page as text."""
    names = _names(runs)
    title = names[0] if len(runs) == 1 else f"{len(runs)} runs side by side"
    return page.render(
        "report",
        {
            "title": title,
            "several": len(runs) > 1,
            "runs": [_run(run, name) for run, name in zip(runs, names, strict=True)],
            "together": (
                vector_curves.draw([run.curves for run in runs], names) if len(runs) > 1 else []
            ),
            "differing": _differing(runs) if len(runs) > 1 else [],
            "prd": {
                "edge": score_pictures.EDGE,
                "left": score_pictures.LEFT,
                "top": score_pictures.TOP,
                "width": score_pictures.LEFT + score_pictures.EDGE + score_pictures.RIGHT,
                "height": score_pictures.TOP + score_pictures.EDGE + score_pictures.BOTTOM,
            },
            "width": vector_curves.WIDTH,
            "height": vector_curves.HEIGHT,
            "inner": {
                "left": vector_curves.LEFT,
                "right": vector_curves.WIDTH - vector_curves.RIGHT,
                "top": vector_curves.TOP,
                "bottom": vector_curves.HEIGHT - vector_curves.BOTTOM,
            },
        },
    )


def _run(run: RunFacts, name: str) -> dict[str, Any]:
    """One run as the template wants it."""
    about = run.config.about
    counts = ", ".join(f"{player} {count:,}" for player, count in run.parameters.items())
    data = run.config.data.spec or "not named"
    found = run.config.found
    if found is not None:
        shape = " × ".join(str(edge) for edge in found.shape)
        kind = "images" if found.kind == "image" else found.kind
        data += f": {found.examples:,} {kind} of {shape}"
    speed = run.images / run.seconds if run.seconds else math.nan
    facts = [
        ("Preset", run.config.preset or "none"),
        ("Model", str(run.config.model.get("kind", ""))),
        ("Paper", str(about.get("paper", "")) or "none named"),
        ("Trainable parameters", f"{run.trainable:,} ({counts})" if counts else "not counted"),
        ("Data", data),
        ("Training", f"{run.step:,} steps, {run.images:,.0f} images, {duration(run.seconds)}"),
        ("Speed", f"{speed:,.0f} examples a second" if math.isfinite(speed) else "not known"),
        ("Precision, seed", f"{run.config.train.precision}, {run.config.train.seed}"),
        ("Ended", run.end),
    ]
    return {
        "name": name,
        "summary": str(about.get("summary", "")),
        "facts": facts,
        "verdict": run.diagnosis.verdict,
        "findings": run.diagnosis.findings,
        "spans": run.diagnosis.spans,
        "drawings": vector_curves.draw([run.curves], [name], run.diagnosis.spans),
        "previews": run.previews,
        "results": run.results,
        "commands": run.commands,
        "settings": run.settings,
        "changed": sum(setting.usual is not None for setting in run.settings),
        "environment": run.environment,
        "notes": run.notes,
        "brief": "; ".join(
            f"{score.name} {score.value}"
            for result in run.results[-1:]
            for score in result.scores
            if score.value != "none"
        ),
    }


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _names(runs: Sequence[RunFacts]) -> list[str]:
    """Folder names, or the addresses where two folders are called the same."""
    names = [run.name for run in runs]
    addressed = any("@" in run.address for run in runs)
    return names if len(set(names)) == len(names) and not addressed else [r.address for r in runs]


def _differing(runs: Sequence[RunFacts]) -> list[tuple[str, list[str]]]:
    """Keys of the configurations that are not the same in all, with the value of each run."""
    values = [{setting.key: setting.value for setting in run.settings} for run in runs]
    keys = dict.fromkeys(key for settings in values for key in settings)
    rows = [(key, [settings.get(key, "—") for settings in values]) for key in keys]
    return [(key, row) for key, row in rows if len(set(row)) > 1 and not key.startswith("about.")]
