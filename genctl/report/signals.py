"""Small statistics on log columns: smoothing, what lasts to the end, what swings, what grows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EXCEPTIONS = 0.1
"""Share of rows that may contradict a condition that still counts as lasting."""


class Swing(NamedTuple):
    """A regular oscillation: its period in rows, how regular (0 … 1), and its size."""

    period: int
    regularity: float
    size: float


def smooth(values: np.ndarray) -> np.ndarray:
    """Running median over a twenty-fifth of the rows (at least 3); holes stay holes."""
    half = max(1, len(values) // 50)
    out = np.full(len(values), np.nan)
    for i in np.flatnonzero(np.isfinite(values)):
        near = values[max(0, i - half) : i + half + 1]
        out[i] = np.median(near[np.isfinite(near)])
    return out


def lasting(condition: np.ndarray, known: np.ndarray, share: float = 0.2) -> int | None:
    """Where a condition begins that holds to the end, or None.

    Args:
        condition: ``(R,)`` booleans.
        known: ``(R,)``, false where the row says nothing either way.
        share: least share of the known rows that it must cover; never less than five rows.

    Returns:
        The first row of the longest ending in which at least nine rows in ten agree, and which
        neither begins nor ends with the exceptions.
    """
    rows = np.flatnonzero(known)
    if len(rows) < 5:
        return None
    held = condition[rows]
    if held[-3:].sum() < 2:  # it is over
        return None
    suffix = np.cumsum(held[::-1])[::-1] / np.arange(len(rows), 0, -1)
    starts = np.flatnonzero(held & (suffix >= 1 - EXCEPTIONS))
    if not len(starts) or len(rows) - starts[0] < max(5, int(np.ceil(share * len(rows)))):
        return None
    return int(rows[starts[0]])


def median(values: np.ndarray | None, start: int = 0, end: int | None = None) -> float:
    """Median of the finite numbers of a stretch; NaN when there are none."""
    if values is None:
        return float("nan")
    part = values[start:end]
    part = part[np.isfinite(part)]
    return float(np.median(part)) if len(part) else float("nan")


def spread(values: np.ndarray | None, start: int = 0, end: int | None = None) -> float:
    """Distance between the 5th and 95th percentile of a stretch; NaN when it is empty."""
    if values is None:
        return float("nan")
    part = values[start:end]
    part = part[np.isfinite(part)]
    return float(np.ptp(np.percentile(part, [5, 95]))) if len(part) else float("nan")


def largest(values: np.ndarray) -> float:
    """The largest of the finite sizes; 0 when there are none."""
    sizes = np.abs(values[np.isfinite(values)])
    return float(sizes.max(initial=0.0))


def still(values: np.ndarray) -> bool:
    """Whether a signal has kept to a few per cent of one value from beginning to end."""
    seen = values[np.isfinite(values)]
    if len(seen) < 5:
        return False
    size, third = abs(float(np.median(seen))), len(seen) // 3
    drift = abs(float(np.median(seen[-third:]) - np.median(seen[:third])))
    return float(np.ptp(seen)) <= 0.12 * size and drift <= 0.04 * size


def restless(values: np.ndarray, start: int) -> bool:
    """Whether a positive signal varies by more than a fifth of its mean from a row on."""
    part = values[start:]
    part = part[np.isfinite(part)]
    return len(part) >= 5 and float(part.std()) > 0.2 * float(part.mean())


def growth(values: np.ndarray, floor: float) -> tuple[float, int] | None:
    """How many times a size has grown over what it was at first, if it is still growing at the end.

    Args:
        values: ``(R,)`` sizes, not negative.
        floor: sizes below this count as this, so that growth from nothing is no growth.

    Returns:
        The factor and the row from which it stayed above ten times its beginnings; None when it
        does not grow. Ordinary size is the median of the first third.
    """
    rows = np.flatnonzero(np.isfinite(values))
    if len(rows) < 6:
        return None
    seen = values[rows]
    base = max(float(np.median(seen[: max(3, len(seen) // 3)])), floor)
    late = float(np.median(seen[-max(3, len(seen) // 10) :]))
    quarter = max(2, len(seen) // 4)
    before = float(np.median(seen[-2 * quarter : -quarter]))
    last = float(np.median(seen[-quarter:]))
    factor = late / base
    # Far beyond everything ordinary it need not go on growing.
    if factor < 1000 and not last > 1.5 * max(before, floor):
        return None
    above = np.flatnonzero(seen < 10 * base)
    start = int(above[-1]) + 1 if len(above) else 0
    return factor, int(rows[min(start, len(rows) - 1)])


def exponential(values: np.ndarray) -> float | None:
    """How many times a size has grown, if it multiplies itself again and again until the end.

    A counter, however large it becomes, does not: its last quarter is less than twice the one
    before.

    Args:
        values: ``(R,)`` sizes, not negative.
    """
    seen = values[np.isfinite(values)]
    if len(seen) < 8:
        return None
    quarters = [float(np.median(part)) for part in np.array_split(seen, 4)]
    base = quarters[0]
    late = float(np.median(seen[-3:]))
    if not (base > 0 and late > 1000 * base):
        return None
    return late / base if quarters[3] > 3 * quarters[2] > 4.5 * quarters[1] else None


def swing(values: np.ndarray) -> Swing | None:
    """A regular oscillation with at least three periods, found in the autocorrelation.

    Noise and slow drifts have none: the correlation must come back after one period and again
    after two.
    """
    seen = values[np.isfinite(values)]
    seen = seen[len(seen) // 10 :]
    n = len(seen)
    if n < 12:
        return None
    x = np.arange(n)
    rest = seen - np.polyval(np.polyfit(x, seen, 1), x)
    power = float(np.mean(rest**2))
    if power <= 1e-18 * max(1.0, float(np.mean(seen**2))):
        return None
    correlation = np.array([np.mean(rest[: n - k] * rest[k:]) for k in range(2 * n // 3)]) / power
    crossings = np.flatnonzero(correlation < 0)
    if not len(crossings) or crossings[0] >= n // 3:
        return None
    first = int(crossings[0])
    period = first + int(np.argmax(correlation[first : n // 3 + 1]))
    around = max(1, period // 6)
    again = float(correlation[2 * period - around : 2 * period + around + 1].max(initial=-1.0))
    regularity = min(float(correlation[period]), again + 0.1)
    # Few rows repeat themselves by chance more easily: at most one white noise in 200 passes.
    if period < 4 or regularity < (0.5 if n >= 50 else 0.6):
        return None
    return Swing(period, min(1.0, regularity), spread(rest))
