"""Learning by heart: examples not trained on fare worse than those trained on."""

from __future__ import annotations

import numpy as np

from genctl.report.curves import Curves
from genctl.report.game import Game
from genctl.report.signals import lasting, median, smooth, spread
from genctl.report.symptoms import Symptom, is_held_out, without_held_out


def memorising(curves: Curves, game: Game) -> Symptom | None:
    """Held-out examples fare worse and worse, or no better, while training examples still gain."""
    for key in curves.columns:
        held, trained = curves.get(key), _trained_with(curves, key)
        if held is None or trained is None:
            continue
        if key.startswith("score/"):
            found = _discriminator_memorises(curves, key, held)
        else:
            found = _gap_opens(curves, key, held, trained)
            if found is None and game.kind == "single":
                found = _left_standing(curves, key, held, trained)
        if found is not None:
            return found
    return None


def _trained_with(curves: Curves, key: str) -> np.ndarray | None:
    """The training column that a held-out column belongs to; None for any other column."""
    if not is_held_out(key):
        return None
    base = without_held_out(key)
    alone = [name for name in curves.starting("loss/") if not is_held_out(name)]
    for name in (base, f"{base}/train", f"loss/{base}", "score/real" if base == "score" else ""):
        if name != key and curves.has(name):
            return curves.columns[name]
    named = base.startswith("loss/")  # a player's own loss is not to be held against another's
    return curves.columns[alone[0]] if len(alone) == 1 and not named else None


def _discriminator_memorises(curves: Curves, key: str, held: np.ndarray) -> Symptom | None:
    """r_v = (D(train) − D(held out)) / (D(train) − D(fake)), Karras et al. 2020, eq. 1."""
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if real is None or fake is None:
        return None
    held_known = np.isfinite(held) & np.isfinite(real) & np.isfinite(fake)
    gap = np.where(np.abs(real - fake) > 0.05, real - fake, np.nan)
    ratio = np.where(held_known, (real - held) / gap, np.nan)
    far = smooth(ratio)
    first = lasting(far > 0.35, np.isfinite(far))
    if first is None:
        return None
    share = median(ratio, first)
    text = (
        f"{key} {median(held, first):.2f} has gone {share:.0%} of the way from score/real "
        f"{median(real, first):.2f} to score/fake {median(fake, first):.2f}"
    )
    return Symptom("memorising", 0.8 if share > 0.5 else 0.65, first, len(curves) - 1, text)


def _gap_opens(curves: Curves, key: str, held: np.ndarray, trained: np.ndarray) -> Symptom | None:
    rows = np.flatnonzero(np.isfinite(held))
    if len(rows) < 5:
        return None
    smoothed = smooth(held)
    best = int(rows[np.argmin(smoothed[rows])])
    gained = float(smoothed[rows[0]] - smoothed[best])
    late = max(best, len(curves) - max(3, len(curves) // 6))
    lost = median(smoothed, late) - float(smoothed[best])
    noise = spread(held - smoothed)
    # A discriminator's own loss may rise too, as its opponent gets better.
    game = key.startswith("loss/discriminator") and float(np.nanmin(trained)) > 0
    bound = 0.75 * median(held, late) if game else float(smooth(trained)[best])
    still = median(trained, late) < bound
    if not (still and lost > max(0.02 * gained, noise, 1e-9) and late - best >= 3):
        return None
    text = (
        f"{key} rose from {smoothed[best]:.4g} to {median(held, late):.4g} since step "
        f"{curves.step[best]} while the training loss did not"
    )
    return Symptom(
        "memorising", min(0.95, 0.7 + lost / max(gained, 1e-9)), best, len(curves) - 1, text
    )


def _left_standing(
    curves: Curves, key: str, held: np.ndarray, trained: np.ndarray
) -> Symptom | None:
    """Held-out examples have stopped gaining far above the training loss, which goes on falling."""
    rows = np.flatnonzero(np.isfinite(held))
    if len(rows) < 8:
        return None
    quarter, half = int(rows[len(rows) // 4]), int(rows[len(rows) // 2])
    before, after = median(held, quarter, half), median(held, half)
    fell = median(trained, half) < median(trained, quarter, half)
    begun, reached = median(trained, 0, max(1, len(curves) // 50)), median(trained, half)
    if not (fell and after > before - 0.1 * (after - reached)):
        return None
    if not after - reached > 0.08 * (begun - reached):
        return None
    text = (
        f"{key} has stayed at {after:.4g} since step {curves.step[quarter]} while the training "
        f"loss went on to {reached:.4g}"
    )
    return Symptom("memorising", 0.7, quarter, len(curves) - 1, text)
