"""The ways in which a game goes wrong, one function each: from curves to evidence, or None.

The thresholds are chosen so that noise around an equilibrium is no finding: a condition must last
to the end of the log (a fifth of it, at least five rows), and a run that recovered is not ill.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from genctl.report.curves import Curves
from genctl.report.game import Game
from genctl.report.signals import lasting, median, restless, smooth, spread, still

HELD_OUT = re.compile(r"held[-_]?out|validation|valid|val|test")
"""A part of a key that marks a measurement on examples not trained on: ``loss/model/held_out``."""


class Symptom(NamedTuple):
    """Evidence for one kind of trouble: between which rows, how sure, and what was seen."""

    kind: str
    confidence: float
    first: int
    last: int
    evidence: str


def too_strong(curves: Curves, game: Game) -> Symptom | None:
    """σ(D) at 1 and 0, the discriminator's loss at its floor, the generator's loss climbing."""
    if game.kind == "energy":
        return _balance_stuck(curves, at=0.0)
    if game.kind != "classifier" and game.equilibrium is None:
        return _left_behind(curves)
    conditions, known, text = [], [], []
    loss = curves.get("loss/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    accuracy = curves.get("accuracy/discriminator")
    share = None
    if loss is not None and game.equilibrium is not None:
        share = (smooth(loss) - game.floor) / max(1e-9, game.equilibrium - game.floor)
        conditions.append(share < 0.15)
        known.append(np.isfinite(share))
    if real is not None and fake is not None and game.cross_entropy:
        gap = smooth(real) - smooth(fake)
        conditions.append(gap > 0.85)
        known.append(np.isfinite(gap))
    elif accuracy is not None:
        conditions.append(smooth(accuracy) > 0.97)
        known.append(np.isfinite(accuracy))
    if not conditions:
        return None
    first = lasting(np.logical_and.reduce(conditions), np.logical_and.reduce(known))
    if first is None:
        return None
    if loss is not None:
        text.append(f"loss/discriminator {median(loss, first):.3g}")
    if real is not None and fake is not None:
        text.append(f"score/real {median(real, first):.2f}, score/fake {median(fake, first):.2f}")
    elif accuracy is not None:
        text.append(f"accuracy/discriminator {median(accuracy, first):.2f}")
    climb, climbed = _climb(curves.get("loss/generator"), first)
    extreme = share is not None and median(share, first) < 0.05
    if climbed:
        text.append(climb)
    elif not extreme:
        return None  # a discriminator that is ahead is ordinary while the generator keeps up
    return Symptom(
        "discriminator-too-strong",
        0.6 + 0.2 * climbed + 0.1 * extreme + 0.05 * (len(conditions) > 1),
        first,
        len(curves) - 1,
        ", ".join(text),
    )


def too_weak(curves: Curves, game: Game) -> Symptom | None:
    """σ(D(fake)) above σ(D(real)), or a loss above that of a coin toss, lastingly."""
    if game.kind == "energy":
        return _balance_stuck(curves, at=1.0)
    if game.kind == "single":
        return None
    found: list[tuple[float, int, str]] = []
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if real is not None and fake is not None:
        gap = smooth(fake - real)
        margin = 0.02 if game.kind == "classifier" else 0.05 * max(1e-6, float(np.nanmax(abs(gap))))
        first = lasting(gap > margin, np.isfinite(gap), 0.25)
        if first is not None:
            sure = 0.85 if game.kind == "classifier" else 0.6
            text = (
                f"score/fake {median(fake, first):.3g} above score/real {median(real, first):.3g}"
            )
            found.append((sure, first, text))
    loss = curves.get("loss/discriminator")
    if loss is not None and game.equilibrium is not None and game.certain:
        smoothed = smooth(loss)
        limit = game.equilibrium + 0.03 * (game.equilibrium - game.floor)
        first = lasting(smoothed > limit, np.isfinite(smoothed), 0.25)
        if first is not None:
            text = (
                f"loss/discriminator {median(loss, first):.3g}, above {game.equilibrium:.3g}, "
                "that of one that cannot tell"
            )
            found.append((0.75, first, text))
    accuracy = curves.get("accuracy/discriminator")
    if accuracy is not None:
        smoothed = smooth(accuracy)
        first = lasting(smoothed < 0.45, np.isfinite(smoothed), 0.25)
        if first is not None:
            text = f"accuracy/discriminator {median(accuracy, first):.2f}, worse than chance"
            found.append((0.7, first, text))
    if not found:
        return None
    confidence = min(0.95, max(sure for sure, _, _ in found) + 0.05 * (len(found) - 1))
    evidence = ", ".join(text for _, _, text in found)
    first = min(start for _, start, _ in found)
    return Symptom("discriminator-too-weak", confidence, first, len(curves) - 1, evidence)


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
    if not fell and too_strong(curves, game) is not None:
        return None  # a generator that never learned has not collapsed
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
    if diversity is None:
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


def generator_is_still(curves: Curves) -> bool:
    """Whether a run's samples are spread at its end just as they were at its first step."""
    diversity = curves.get("diversity")
    from_start = len(curves) > 0 and curves.step[0] <= 0.02 * curves.step[-1]
    return diversity is not None and from_start and still(smooth(diversity))


def _left_behind(curves: Curves) -> Symptom | None:
    """A critic without bound moves its scores apart, and the generator does not follow at all."""
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if real is None or fake is None or not generator_is_still(curves):
        return None
    gap = smooth(real - fake)
    part = max(3, len(gap) // 6)
    start, late = median(gap, 0, part), median(gap, -part)
    if not late > max(2.0 * start, 0.5 * float(np.nanmax(gap))):
        return None
    text = (
        f"score/real - score/fake went from {start:.3g} to {late:.3g} while diversity stayed at "
        f"{median(curves.get('diversity')):.3g}"
    )
    return Symptom("discriminator-too-strong", 0.7, 0, len(curves) - 1, text)


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
    base = _without_held_out(key)
    alone = [name for name in curves.starting("loss/") if not is_held_out(name)]
    for name in (base, f"{base}/train", f"loss/{base}", "score/real" if base == "score" else ""):
        if name != key and curves.has(name):
            return curves.columns[name]
    return curves.columns[alone[0]] if len(alone) == 1 else None


def is_held_out(key: str) -> bool:
    """Whether a key tells of examples not trained on."""
    return _without_held_out(key) != key


def _without_held_out(key: str) -> str:
    return "/".join(part for part in key.split("/") if not HELD_OUT.fullmatch(part))


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


def _balance_stuck(curves: Curves, at: float) -> Symptom | None:
    """BEGAN's k at an end of its range: one of the two players has won."""
    k = curves.get("began/k")
    if k is None:
        return None
    first = lasting(np.abs(k - at) < 1e-6, np.isfinite(k), 0.5 if at == 0.0 else 0.3)
    if first is None:
        return None
    kind = "discriminator-too-strong" if at == 0.0 else "discriminator-too-weak"
    real, fake = median(curves.get("score/real"), first), median(curves.get("score/fake"), first)
    if at == 0.0 and not fake > real:  # nothing generated is told from real ones yet
        return None
    text = f"began/k stuck at {at:.0f}: score/real {real:.3g}, score/fake {fake:.3g}"
    return Symptom(kind, 0.6, first, len(curves) - 1, text)


def _climb(loss: np.ndarray | None, first: int) -> tuple[str, bool]:
    """Whether the generator's loss has climbed since the beginning or goes on climbing."""
    if loss is None:
        return "", False
    part = max(3, len(loss) // 6)
    start, late = median(loss, 0, part), median(loss, -part)
    half = first + (len(loss) - first) // 2
    earlier, later = median(loss, first, half), median(loss, half)
    climbed = late > start + max(0.3, 0.3 * abs(start)) or later > earlier + 0.1 * abs(earlier)
    return f"loss/generator climbed from {start:.3g} to {late:.3g}", bool(climbed)
