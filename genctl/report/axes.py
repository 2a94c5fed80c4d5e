"""Axes for curves: where a value stands between 0 and 1, and which values are worth a tick."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

_LEAST = 1e-290  # of a span: its fractions are still ordinary numbers
WIDE = 100.0
"""Extremes this many times the median hide the rest on a linear axis."""


@dataclass(frozen=True)
class Axis:
    """A scale with its range.

    Attributes:
        kind: ``linear``, ``log``, or ``symlog``: linear within ±``threshold``, logarithmic beyond.
        low: the least value shown.
        high: the largest.
        threshold: of ``symlog``.
    """

    kind: Literal["linear", "log", "symlog"]
    low: float
    high: float
    threshold: float = 1.0

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where values stand: 0 at ``low``, 1 at ``high``; NaN stays NaN."""
        low, high = self._bend(np.array([self.low, self.high]))
        return np.asarray((self._bend(values) - low) / (high - low))

    def ticks(self) -> list[float]:
        """A few round values within the range, ascending."""
        if self.kind == "linear":
            return _round_values(self.low, self.high)
        if self.kind == "log":
            powers = _powers(self.low, self.high)
            return powers if len(powers) >= 3 else _within_decades(self.low, self.high)
        upper = _powers(self.threshold, self.high) if self.high > self.threshold else []
        lower = _powers(self.threshold, -self.low) if -self.low > self.threshold else []
        middle = [0.0] if self.low <= 0 <= self.high else []
        return [-value for value in reversed(lower)] + middle + upper

    def _bend(self, values: np.ndarray) -> np.ndarray:
        if self.kind == "log":
            return np.asarray(np.log10(values))
        if self.kind == "symlog":
            return np.asarray(np.arcsinh(values / self.threshold))
        return values


def axis_for(values: np.ndarray, logarithmic: bool = False) -> Axis:
    """The scale that shows most: logarithmic where extremes would hide the rest.

    Args:
        values: finite numbers, at least one.
        logarithmic: wanted where all are positive, as for norms.
    """
    low, high = float(values.min()), float(values.max())
    sizes = np.abs(values[values != 0])
    middle = float(np.median(sizes)) if len(sizes) else 1.0
    wide = len(sizes) > 0 and float(sizes.max()) > WIDE * middle
    if low == high:  # a flat line in the middle
        room = abs(low) / 2 or 1.0
        return Axis("linear", low - room, high + room)
    if low > 0 and (logarithmic or wide):
        return Axis("log", low, high)
    if wide:
        return Axis("symlog", low, high, max(middle, 1e-30 * float(sizes.max())))
    room = 0.04 * (high - low)
    return Axis("linear", low - room, high + room)


def label(value: float) -> str:
    """A tick's text: short, with the suffixes k and M."""
    size = abs(value)
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if unit <= size < 1e9:
            return f"{value / unit:.4g}{suffix}"
    return f"{value:.3g}"


def _round_values(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` multiples of 1, 2 or 5 × 10ⁿ."""
    span = high - low
    if not _LEAST < span < math.inf:
        return []
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 5, 10, 20) if span / (m * power) <= most)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def _powers(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` powers of ten within the range, evenly apart."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    apart = max(1, math.ceil((last - first + 1) / most))
    return [10.0**i for i in range(first, last + 1, apart)]


def _within_decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 × 10ⁿ within the range, for less than three decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [m * 10.0**i for i in range(first, last + 1) for m in (1, 2, 5)]
    found = [value for value in values if low <= value <= high]
    return found if len(found) >= 2 else _round_values(low, high)
