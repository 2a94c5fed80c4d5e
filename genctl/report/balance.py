"""One of two players far ahead of the other: a discriminator too strong, or too weak.

The thresholds are chosen so that noise around an equilibrium is no finding: a condition must last
to the end of the log (a fifth of it, at least five rows), and a run that recovered is not ill.
"""

from __future__ import annotations

import numpy as np

from genctl.report.curves import Curves
from genctl.report.game import Game
from genctl.report.signals import largest, lasting, median, smooth
from genctl.report.symptoms import Symptom, generator_is_still


def too_strong(curves: Curves, game: Game) -> Symptom | None:
    """σ(D) at 1 and 0, the discriminator's loss at its floor, the generator's loss climbing."""
    if game.kind == "energy":
        return _balance_stuck(curves, at=0.0)
    if game.kind == "single":
        return None
    if game.kind == "critic" and game.equilibrium is None:
        return _left_behind(curves)
    won = _won(curves, game)
    if won is None:
        return None
    first, known, extreme = won
    text = []
    loss, accuracy = curves.get("loss/discriminator"), curves.get("accuracy/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if loss is not None:
        text.append(f"loss/discriminator {median(loss, first):.3g}")
    if real is not None and fake is not None:
        text.append(f"score/real {median(real, first):.2f}, score/fake {median(fake, first):.2f}")
    elif accuracy is not None:
        text.append(f"accuracy/discriminator {median(accuracy, first):.2f}")
    climb, climbed = _climb(curves.get("loss/generator"), first)
    if climbed:
        text.append(climb)
    scored = real is not None and fake is not None
    if not extreme and not (climbed and (loss is not None or scored)):
        return None  # a discriminator that is ahead is ordinary while the generator keeps up
    confidence = 0.6 + 0.2 * climbed + 0.1 * extreme + 0.05 * (known > 1)
    return Symptom("discriminator-too-strong", confidence, first, len(curves) - 1, ", ".join(text))


def _won(curves: Curves, game: Game) -> tuple[int, int, bool] | None:
    """Since when every signal says that the discriminator is right, by how many, and if extremely.

    Where no loss says it, scores or an accuracy at their extremes are evidence by themselves: near
    them for most of the log, there for a fifth of it, or going there all the way to the end.
    """
    loss = curves.get("loss/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    accuracy = curves.get("accuracy/discriminator")
    conditions, known, extreme = [], [], False
    share = None
    if loss is not None and game.equilibrium is not None:
        share = _share(loss, game)
        conditions.append(share < 0.15)
        known.append(np.isfinite(share))
    if real is not None and fake is not None and game.cross_entropy:
        gap = smooth(real) - smooth(fake)
        conditions.append(gap > 0.85)
        known.append(np.isfinite(gap))
        if share is None:
            extreme = _at_extreme(gap, 0.9, 0.97)
    elif accuracy is not None:
        smoothed = smooth(accuracy)
        conditions.append(smoothed > 0.97)
        known.append(np.isfinite(smoothed))
        if share is None:
            score = real if real is not None else fake  # one of the two, which may speak against it
            sure = score is None or not game.cross_entropy or not 0.05 < median(score, -10) < 0.95
            extreme = sure and _at_extreme(smoothed, 0.995, 0.999)
    if not conditions:
        return None
    least = 0.2 if share is not None else 0.1  # scores that are still going there come late
    first = lasting(np.logical_and.reduce(conditions), np.logical_and.reduce(known), least)
    if first is None:
        return None
    if share is not None:  # a loss alone might be one of smaller numbers than it is taken for
        scored = accuracy is not None or (real is not None and fake is not None)
        extreme = median(share, first) < (0.05 if scored else 0.02)
    return first, len(conditions), extreme


def _at_extreme(values: np.ndarray, near: float, there: float) -> bool:
    seen = np.isfinite(values)
    if lasting(values > near, seen, 0.5) is not None or lasting(values > there, seen) is not None:
        return True
    thirds = [float(np.median(part)) for part in np.array_split(values[seen], 3) if len(part)]
    rising = len(thirds) == 3 and thirds[0] < thirds[1] < thirds[2] - 0.05
    return rising and median(values, -max(3, len(values) // 10)) > near


def _share(loss: np.ndarray, game: Game) -> np.ndarray:
    """The discriminator's loss between its floor, 0, and the equilibrium, 1."""
    top = game.floor if game.equilibrium is None else game.equilibrium
    return (smooth(loss) - game.floor) / max(1e-9, top - game.floor)


def ahead_from(curves: Curves, game: Game) -> int | None:
    """The row from which the discriminator is lastingly more than half way to always right."""
    loss = curves.get("loss/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if loss is not None and game.equilibrium is not None:
        share = _share(loss, game)
        return lasting(share < 0.5, np.isfinite(share))
    if real is not None and fake is not None and game.cross_entropy:
        gap = smooth(real) - smooth(fake)
        return lasting(gap > 0.5, np.isfinite(gap))
    return None


def fooled(curves: Curves, game: Game, until: int) -> Symptom | None:
    """Generated examples scored above real ones more often than not, at first and at last too.

    By however little: asked only of a run whose samples have become alike, where a discriminator
    that cannot tell them from the data is the reason, and noise is none.

    Args:
        curves: the log.
        game: how it is read.
        until: the row from which the samples are alike.
    """
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if game.kind not in ("classifier", "critic") or real is None or fake is None:
        return None
    gap = smooth(fake) - smooth(real)
    before = gap[: max(3, until)]
    wrong, known = gap > 0, np.isfinite(gap)
    late = wrong[known][-max(3, int(known.sum()) // 5) :]
    if not known.sum() >= 5 or wrong[known].mean() <= 0.5 or late.mean() <= 0.5:
        return None
    if not median(before) > 0:
        return None
    share, rows = float(wrong[known].mean()), np.flatnonzero(wrong)
    text = (
        f"score/fake above score/real in {share:.0%} of the log ({median(fake):.3g} against "
        f"{median(real):.3g}), and before the samples became alike"
    )
    first = int(rows[0])
    return Symptom("discriminator-too-weak", 0.5 + 0.3 * share, first, len(curves) - 1, text)


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
        margin = 0.02 if game.kind == "classifier" else 0.05 * max(1e-6, largest(gap))
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


def _left_behind(curves: Curves) -> Symptom | None:
    """A critic without bound moves its scores apart, and the generator does not follow at all."""
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if real is None or fake is None or not generator_is_still(curves):
        return None
    gap = smooth(real - fake)
    part = max(3, len(gap) // 6)
    start, late = median(gap, 0, part), median(gap, -part)
    if not late > max(2.0 * start, 0.5 * largest(gap)):
        return None
    text = (
        f"score/real - score/fake went from {start:.3g} to {late:.3g} while diversity stayed at "
        f"{median(curves.get('diversity')):.3g}"
    )
    return Symptom("discriminator-too-strong", 0.7, 0, len(curves) - 1, text)


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
