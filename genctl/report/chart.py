"""Curves in the terminal, in braille dots (or plain characters where those cannot be printed)."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from genctl.report.curves import Curves, panels

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the 4 × 2 dots of a braille character, from U+2800."""


def chart(steps: np.ndarray, values: np.ndarray, width: int, height: int) -> list[str]:
    """One curve as ``height`` lines of ``width`` braille characters, 2 × 4 dots each.

    Args:
        steps: ``(R,)`` increasing.
        values: ``(R,)``; what is not finite leaves a gap.
        width: characters of a line.
        height: lines.
    """
    dots = _raster(steps, values, 2 * width, 4 * height)
    lines = []
    for top in range(0, 4 * height, 4):
        codes = np.zeros(width, dtype=int)
        for row, bits in enumerate(DOTS):
            for column, bit in enumerate(bits):
                codes |= np.where(dots[top + row, column::2], bit, 0)
        lines.append("".join(chr(0x2800 + code) if code else " " for code in codes))
    return lines


def plain_chart(steps: np.ndarray, values: np.ndarray, width: int, height: int) -> list[str]:
    """The same with asterisks, for terminals without Unicode."""
    dots = _raster(steps, values, width, height)
    return ["".join("*" if dot else " " for dot in row) for row in dots]


def _raster(steps: np.ndarray, values: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """A curve as ``(rows, columns)`` booleans: the range of values in each column, joined up."""
    dots = np.zeros((rows, columns), dtype=bool)
    shown = np.isfinite(values)
    if not shown.any():
        return dots
    low, high = float(values[shown].min()), float(values[shown].max())
    first, last = float(steps[0]), float(steps[-1])
    x = np.zeros(len(steps), dtype=int)
    if last > first:
        x = np.round((steps - first) / (last - first) * (columns - 1)).astype(int)
    level = np.full(len(values), rows - 1, dtype=int)
    if high > low:
        share = (values[shown] - low) / (high - low)
        level[shown] = np.round((1 - share) * (rows - 1)).astype(int)
    before: int | None = None
    for i in range(len(values)):
        if not shown[i]:
            before = None
            continue
        dots[level[i], x[i]] = True
        if before is not None and x[i] >= x[before]:
            _join(dots, int(x[before]), int(level[before]), int(x[i]), int(level[i]))
        before = i
    return dots


def _join(dots: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> None:
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    xs = np.round(np.linspace(x0, x1, count + 1)).astype(int)
    ys = np.round(np.linspace(y0, y1, count + 1)).astype(int)
    dots[ys, xs] = True


def render(runs: Sequence[Curves], width: int = 100, colour: bool = False) -> str:
    """Every drawn key of every run as a small chart with its range.

    Args:
        runs: drawn below each other.
        width: characters of a line.
        colour: whether control characters for colours may be used.
    """
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, force_terminal=colour, no_color=not colour, highlight=False
    )
    unicode = _can_print("⠿")
    draw = chart if unicode else plain_chart
    for curves in runs:
        names = [key for keys in panels(curves).values() for key in keys]
        if not names or not len(curves):
            console.print(Text(f"{curves.run}: no metrics yet"))
            continue
        span = f"steps {curves.step[0]} to {curves.step[-1]}, {len(curves)} rows"
        console.print(Text(f"{curves.run}  {span}", style="bold"))
        margin = max(len(name) for name in names)
        room = max(10, width - margin - 14)
        for title, keys in panels(curves).items():
            for key in keys:
                values = curves.columns[key]
                finite = values[np.isfinite(values)]
                if finite.min() == finite.max():
                    console.print(Text(f"{key:>{margin}} {finite[0]:10.4g} in every row"))
                    continue
                lines = draw(curves.step, values, room, 3)
                edges = [f"{finite.max():10.4g}", " " * 10, f"{finite.min():10.4g}"]
                heads = [key, "", f"last {finite[-1]:.4g}"]
                for head, edge, line in zip(heads, edges, lines, strict=True):
                    text = Text(f"{head:>{margin}} {edge} ")
                    text.append(line.rstrip(), style=_STYLES.get(title, "cyan"))
                    console.print(text, no_wrap=True, overflow="crop")
    return buffer.getvalue().rstrip("\n")


_STYLES = {"loss": "yellow", "score": "green", "gradient norm": "magenta"}


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
