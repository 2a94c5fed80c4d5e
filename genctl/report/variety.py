"""Mode collapse: samples that have become alike, or move from mode to mode together."""

from __future__ import annotations

import numpy as np

from genctl.report.curves import Curves
from genctl.report.game import Game
from genctl.report.signals import lasting, median, restless, smooth
from genctl.report.symptoms import Symptom, generator_is_still, is_young


def collapse(curves: Curves, game: Game) -> Symptom | None:
    """Diversity of generated batches fallen to a few per cent of the data's, or stuck low."""
    diversity = curves.get("diversity")
    if diversity is None or (generator_is_still(curves) and median(diversity) > 0.02):
        return None  # as it was made: it has lost nothing
    smoothed = smooth(diversity)
    low = [(0.1, 0.15), (0.3, 0.5)]  # below this, for this share of the log
    starts = (lasting(smoothed < size, np.isfinite(smoothed), share) for size, share in low)
    first = next((start for start in starts if start is not None), None)
    if first is None:
        return None
    late = median(diversity, first)
    half = first + (len(curves) - first) // 2
    rise = 1.5 if late < 0.1 else 1.2
    if median(diversity, half) > rise * max(1e-4, median(diversity, first, half)):
        return None  # low, but on its way up: an early generator
    before = smoothed[:first]
    before = before[np.isfinite(before)]
    peak = float(before.max()) if len(before) else float("nan")
    fell = peak > 2.5 * late
    if is_young(curves) and not (fell and late < 0.05):
        return None  # it has had no time to come to anything
    confidence = 0.6 + 0.25 * fell + 0.1 * (late < 0.05)
    came = f"fell from {peak:.2f} to" if fell else "stayed at"
    return Symptom(
        "mode-collapse", confidence, first, len(curves) - 1, f"diversity {came} {late:.3g}"
    )


def wandering(curves: Curves, game: Game) -> Symptom | None:
    """Samples that go from mode to mode together: little diversity, and never the same, to the end.

    Asked after regular swings, which are another trouble.
    """
    diversity = curves.get("diversity")
    if diversity is None or is_young(curves):
        return None
    smoothed, first = smooth(diversity), len(curves) - 2 * len(curves) // 5
    size, third = median(smoothed, first), max(1, (len(curves) - first) // 3)
    starts = (first, first + third, len(curves) - third)
    thirds = [median(smoothed, start, start + third) for start in starts]
    climbing = thirds == sorted(thirds) and thirds[2] > 1.3 * thirds[0]
    if not size < 0.5 or climbing or not restless(smoothed, first):
        return None
    text = f"diversity wanders around {size:.3g}"
    return Symptom("mode-collapse", 0.6, first, len(curves) - 1, text)


def lost_from(curves: Curves) -> int | None:
    """The row from which diversity stays below half of the most it was; None if it does not."""
    diversity = curves.get("diversity")
    if diversity is None:
        return None
    smoothed = smooth(diversity)
    return lasting(smoothed < 0.5 * np.nanmax(smoothed), np.isfinite(smoothed), 0.15)
