"""Curves as vector pictures for a page, which takes their colours from its own style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genctl.report.axes import Axis, axis_for, label
from genctl.report.curves import Curves, Span, panels

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 28
COLOURS, DASHES = 8, 3
"""Kinds of lines; the templates' style draws each."""
MOST_POINTS = 2 * (WIDTH - LEFT - RIGHT)
"""Of a line: the least and the largest value of each pixel's width say as much as all of them."""


@dataclass(frozen=True)
class Line:
    """One curve: its name, its path, how it is drawn, and what it says in words."""

    name: str
    path: str
    dots: Sequence[tuple[float, float]]
    colour: int
    dash: int
    words: str


@dataclass(frozen=True)
class Tick:
    """A value beside an axis, at this many units from the left or the top."""

    at: float
    text: str


@dataclass(frozen=True)
class Shade:
    """A stretch of steps in which something was seen."""

    left: float
    width: float
    name: str


@dataclass(frozen=True)
class Drawing:
    """A panel ready to be drawn in ``WIDTH`` × ``HEIGHT`` units."""

    title: str
    scale: str
    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    shades: Sequence[Shade]


def draw(runs: Sequence[Curves], names: Sequence[str], spans: Sequence[Span] = ()) -> list[Drawing]:
    """Every panel of one run, or of several over each other.

    Args:
        runs: of one run the keys have colours; of several the runs have, and keys have dashes.
        names: what the runs are called.
        spans: stretches to shade.
    """
    titles = list(dict.fromkeys(title for curves in runs for title in panels(curves)))
    return [_panel(title, runs, names, spans) for title in titles]


def _panel(
    title: str, runs: Sequence[Curves], names: Sequence[str], spans: Sequence[Span]
) -> Drawing:
    keys = list(dict.fromkeys(key for curves in runs for key in panels(curves).get(title, [])))
    shown = [
        (i, key, curves) for i, curves in enumerate(runs) for key in panels(curves).get(title, [])
    ]
    values = np.concatenate([curves.columns[key] for _, key, curves in shown])
    y = axis_for(values[np.isfinite(values)], logarithmic=title == "gradient norm")
    steps = np.concatenate([curves.step for _, _, curves in shown])
    first, last = float(steps.min()), float(steps.max())
    x = Axis("linear", first, last if last > first else first + 1)
    lines = []
    for run, key, curves in shown:
        number = keys.index(key)
        alone = len(runs) == 1
        lines.append(
            _line(
                key if alone else f"{names[run]}: {key}",
                curves.step,
                curves.columns[key],
                (x, y),
                (number if alone else run) % COLOURS,
                (number // COLOURS if alone else number) % DASHES,
            )
        )
    scale = {"log": ", logarithmic", "symlog": ", logarithmic far from zero"}.get(y.kind, "")
    return Drawing(
        title,
        scale,
        lines,
        [Tick(_across(x, value), label(value)) for value in x.ticks()],
        [Tick(_down(y, value), label(value)) for value in y.ticks()],
        [_shade(x, span) for span in spans if span.last >= first and span.first <= last],
    )


def _line(
    name: str,
    steps: np.ndarray,
    values: np.ndarray,
    axes: tuple[Axis, Axis],
    colour: int,
    dash: int,
) -> Line:
    finite = np.isfinite(values)
    at, found = steps[finite], values[finite]
    words = (
        f"{name} goes from {found[0]:.4g} at step {at[0]} to {found[-1]:.4g} at step {at[-1]}, "
        f"between {found.min():.4g} and {found.max():.4g}"
    )
    rows = _telling(values)
    xs = LEFT + axes[0].place(steps[rows].astype(float)) * (WIDTH - LEFT - RIGHT)
    ys = TOP + (1 - axes[1].place(values[rows])) * (HEIGHT - TOP - BOTTOM)
    parts, dots, run = [], [], 0
    for i, (px, py) in enumerate(zip(xs, ys, strict=True)):
        if not np.isfinite(py):
            run = 0
            continue
        parts.append(f"{'L' if run else 'M'}{px:.1f} {py:.1f}")
        run += 1
        if run == 1 and (i + 1 == len(ys) or not np.isfinite(ys[i + 1])):
            dots.append((round(float(px), 1), round(float(py), 1)))  # between two gaps
    return Line(name, "".join(parts), dots, colour, dash, words)


def _telling(values: np.ndarray) -> np.ndarray:
    """Row numbers that show the curve: all, or the extremes and a gap of each of many stretches."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    rows = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), MOST_POINTS // 2):
        here = values[part]
        finite = np.isfinite(here)
        if finite.any():
            rows |= {int(part[np.nanargmin(here)]), int(part[np.nanargmax(here)])}
        if not finite.all():
            rows.add(int(part[np.argmin(finite)]))
    return np.array(sorted(rows))


def _shade(x: Axis, span: Span) -> Shade:
    left = max(float(LEFT), _across(x, span.first))
    right = min(float(WIDTH - RIGHT), _across(x, span.last))
    return Shade(round(left, 1), round(max(1.0, right - left), 1), span.name)


def _across(x: Axis, value: float) -> float:
    share = float(x.place(np.array([float(value)]))[0])
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _down(y: Axis, value: float) -> float:
    share = float(y.place(np.array([float(value)]))[0])
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)
