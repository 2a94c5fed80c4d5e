"""What recorded scores can be seen by: PRD's curve, and samples beside their nearest neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genctl.engine.run_directory import RunDirectory
from genctl.report.previews import Preview, read_one

EDGE, LEFT, TOP, RIGHT, BOTTOM = 260, 44, 10, 12, 40
"""Units of the curve's square and of the room around it."""
MOST_POINTS = 2000
PICTURE_BYTES = 2**18
"""Of one picture of neighbours; a page shows at most as many as results."""
LARGEST = 1e300
_PICTURE = re.compile(r"evaluate-(\d{1,15})-[\w.-]+\.png")


@dataclass(frozen=True)
class PrdCurve:
    """Precision over recall: an SVG path, and what it says in words."""

    path: str
    words: str


@dataclass(frozen=True)
class Neighbours:
    """Generated pictures, each beside its nearest training pictures, and that in words."""

    picture: Preview
    words: str


def prd_curve(metrics: Mapping[str, Any]) -> PrdCurve | None:
    """The curve of a result, None where there is none that can be drawn."""
    entry = metrics.get("prd")
    curve = entry.get("curve") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(curve, Mapping):
        return None
    recall, precision = _shares(curve.get("recall")), _shares(curve.get("precision"))
    if not recall or len(recall) != len(precision) or len(recall) > MOST_POINTS:
        return None
    points = [
        f"{LEFT + EDGE * r:.1f} {TOP + EDGE * (1 - p):.1f}"
        for r, p in zip(recall, precision, strict=True)
    ]
    said = [
        f"{name} {entry[key]:.3f}"
        for key, name in (("f8", "F8 (recall)"), ("f1_8", "F1/8 (precision)"), ("f1", "F1"))
        if _is_share(entry.get(key))
    ]
    half = max((p for r, p in zip(recall, precision, strict=True) if r >= 0.5), default=0.0)
    said.append(f"at a recall of one half or more, precision is at most {half:.3f}")
    return PrdCurve("M" + "L".join(points), "; ".join(said))


def neighbours(
    metrics: Mapping[str, Any], run: RunDirectory, step: int, name: str
) -> Neighbours | None:
    """The picture that ``evaluate`` drew among the run's reports, None where there is none.

    Args:
        metrics: of the result.
        run: the run.
        step: of the result.
        name: file of the result, for the picture's name begins like it.
    """
    entry = metrics.get("memorization")
    said = entry.get("picture") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(said, str):
        return None
    file = said.replace("\\", "/").rsplit("/", 1)[-1]
    if not _PICTURE.fullmatch(file) or file != name.removesuffix(".json") + "-memorization.png":
        return None  # drawn elsewhere, by --plot
    picture = read_one(run.reports / file, run.path, step, PICTURE_BYTES)
    if picture is None:
        return None
    rows = entry.get("nearest")
    count = len(rows) if isinstance(rows, list) else 0
    words = f"{count} generated pictures, the nearest to a training picture first, one a row"
    distances = [row.get("distances") for row in rows or () if isinstance(row, Mapping)]
    first = distances[0] if distances else None
    if isinstance(first, list) and first and _is_number(first[0]):
        words += f"; the first is at a distance of {first[0]:.4g}"
        if _is_number(entry.get("threshold")):
            words += f", a copy is within {entry['threshold']:.4g}"
    return Neighbours(picture, f"{words}; to the right of each its nearest training pictures")


def _shares(values: object) -> list[float]:
    """Numbers from 0 to 1; nothing where any is something else."""
    if not isinstance(values, list) or not all(_is_share(value) for value in values):
        return []
    return [float(value) for value in values]


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST  # not of NaN
