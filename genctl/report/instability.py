"""Trouble that any training can have: numbers that blow up, swing, or stand still."""

from __future__ import annotations

import itertools
import re

import numpy as np

from genctl.report.balance import too_strong, too_weak
from genctl.report.curves import CLOCKS, COUNTERS, Curves
from genctl.report.game import Game
from genctl.report.signals import (
    exponential,
    growth,
    largest,
    lasting,
    median,
    smooth,
    spread,
    swing,
)
from genctl.report.symptoms import Symptom, generator_is_still, is_held_out, is_young

_JUDGED = ("grad_norm/", "score/", "wasserstein", "began/")
"""Signals whose growth is judged by what the game makes of it."""

_SETTING = re.compile(r"(^|[^a-z])(lr|rate|scale|step|steps|epoch|images|samples|tokens)([^a-z]|$)")


def not_finite(curves: Curves, game: Game) -> Symptom | None:
    """Divergence: losses, norms or weights that are not finite."""
    rows = {int(step): i for i, step in enumerate(curves.step)}
    bad = {s: [k for k in keys if _matters(k)] for s, keys in curves.nonfinite.items()}
    bad = {step: keys for step, keys in bad.items() if keys}
    recent = [step for step in bad if rows[step] >= len(curves) - 3]
    if recent or len(bad) > 0.1 * len(curves):  # otherwise it was skipped, and training went on
        first = min(bad)
        return Symptom(
            "divergence", 1.0, rows[first], rows[max(bad)], f"{', '.join(bad[first])} not finite"
        )
    for key in curves.starting("nonfinite/"):
        count = curves.columns[key]
        known = np.flatnonzero(np.isfinite(count))
        total = count[known[-1]]
        steps = curves.step[-1] - curves.step[0] + 1
        # A skip now and then is what the policy is for; one step in a hundred is not.
        if total >= 3 and total > 0.01 * steps:
            text = f"{key} reached {total:.0f} skipped updates"
            return Symptom("divergence", 0.9, int(known[0]), len(curves) - 1, text)
    for key in curves.starting("loss/"):
        column = curves.columns[key]
        if np.isnan(column[-3:]).all() and len(curves) > 3:
            first = int(np.flatnonzero(np.isfinite(column))[-1]) + 1
            return Symptom(
                "divergence", 0.6, first, len(curves) - 1, f"{key} has no number any more"
            )
    return None


def diverging(curves: Curves, game: Game) -> Symptom | None:
    """Divergence: losses or gradient norms that grow without bound."""
    lost = _never_came_back(curves, game)
    if lost is not None:
        return lost
    rising = _without_end(curves, game) or _multiplying(curves, game)
    if rising is not None:
        return rising
    found: list[tuple[float, float, str, int]] = []
    for key, factor_needed, floor, least in _growing_keys(curves, game):
        values = curves.columns[key]
        if game.kind == "single" and key.startswith("loss/"):
            seen = values[np.isfinite(values)]
            start = seen[: max(3, len(seen) // 3)]
            # A likelihood may fall without bound; only a rise above the beginning is trouble.
            scale = max(abs(float(np.median(start))), 0.3 * float(np.ptp(start)))
            sizes = np.maximum(0.0, values - float(np.nanmin(values)))
            floor = max(floor, scale)
        else:
            sizes = np.abs(values)
        grown = growth(sizes, floor)
        if grown is None or grown[0] < factor_needed:
            continue
        late = median(values, -max(3, len(values) // 10))
        if abs(late) >= least:
            found.append(
                (grown[0] / factor_needed, grown[0], f"{key} grew to {late:.3g}", grown[1])
            )
    if not found:
        return None
    found.sort(reverse=True)
    severity, factor, text, first = found[0]
    confidence = min(0.98, 0.7 + 0.1 * np.log10(max(1.0, severity)) + 0.05 * (len(found) - 1))
    more = f", and so did {len(found) - 1} other signals" if len(found) > 1 else ""
    evidence = f"{text}, {factor:.3g} times its size in the first third, and still growing{more}"
    return Symptom("divergence", float(confidence), first, len(curves) - 1, evidence)


def oscillation(curves: Curves, game: Game) -> Symptom | None:
    """Large regular swings that go on to the end."""
    found: list[tuple[float, str, int]] = []
    keys = [*curves.starting("loss/"), "score/real", "score/fake", "diversity"]
    if game.kind == "critic":  # its values may drift, only their differences mean anything
        keys = ["wasserstein", "loss/discriminator", "diversity"]
    late = len(curves) // 2
    for key in keys:
        values = curves.get(key)
        if values is None:
            continue
        probability = key.startswith("score/") and game.kind == "classifier"
        for start in (0, late):
            part = values[start:]
            needed = 0.3
            if not probability and key != "diversity":
                needed = _ordinary_swing(part, game)
            if start and len(part) < 20:
                break
            seen = swing(part)
            if seen is None or seen.size < needed:
                continue
            if spread(values, -max(2 * seen.period, len(values) // 4)) < needed / 2:
                continue  # what swung at first and came to rest is no oscillation any more
            steps = seen.period * float(np.median(np.diff(curves.step)))
            text = f"{key} swings by {seen.size:.3g} every {steps:.0f} steps"
            found.append((seen.regularity, text, start))
            break
    if not found:
        return None
    found.sort(key=lambda item: -item[0])
    regularity = found[0][0]
    confidence = min(0.95, 0.5 + 0.4 * regularity + 0.05 * (len(found) - 1))
    evidence = ", ".join(text for _, text, _ in found[:3])
    start = min(first for _, _, first in found)
    return Symptom("oscillation", confidence, start, len(curves) - 1, evidence)


def stalled(curves: Curves, game: Game) -> Symptom | None:
    """Flat scores and losses with vanished gradients, at the value of the equilibrium."""
    norms = curves.starting("grad_norm/")
    first = len(curves) - max(5, len(curves) // 4)
    if norms:
        quiet = []
        for key in norms:
            values = curves.columns[key]
            start = median(values, 0, max(3, len(curves) // 10))
            quiet.append(np.isnan(values) | (values < 1e-3 * max(1.0, start)))
        begins = lasting(np.logical_and.reduce(quiet), np.ones(len(curves), dtype=bool))
        if begins is None:
            return None
        first = begins
    watched = [
        *curves.starting("loss/"),
        *curves.starting("score/"),
        *(["wasserstein"] if curves.has("wasserstein") else []),
    ]
    tolerance = 0.02 if norms else 1e-3
    late = max(first, len(curves) - max(5, len(curves) // 4))
    for key in watched:
        values = curves.columns[key]
        scale = max(abs(median(values, late)), 0.05 * spread(values), 1e-3)
        if not spread(values, late) <= tolerance * scale:
            return None
    place = _resting_place(curves, game, late)
    if not watched or place is None:
        return None
    sizes = [f"{key} {median(curves.columns[key], first):.2g}" for key in norms]
    confidence = 0.9 if norms else 0.6
    evidence = ", ".join([*sizes, place])
    return Symptom("stalled", confidence, first, len(curves) - 1, evidence)


def nothing_moved(curves: Curves, game: Game) -> Symptom | None:
    """Stalled from the first step: no signal has left its little noise, diversity included."""
    if curves.step[0] > 0.02 * curves.step[-1]:
        return None
    if game.kind != "single" and not generator_is_still(curves):
        return None
    keys = [*curves.starting("loss/"), "score/real", "score/fake", "wasserstein"]
    keys = [key for key in keys if curves.has(key) and not is_held_out(key)]
    third = len(curves) // 3
    for key in keys:
        values = curves.columns[key]
        first, last = median(values, 0, third), median(values, -third)
        noise = max(spread(values), 1e-3 * abs(first))
        size = abs(last)
        if key != "loss/discriminator":  # scores around zero are measured by the game's own scale
            size = max(size, game.equilibrium or 0.0)
        if not (noise <= 0.08 * size and abs(last - first) <= 0.5 * noise):
            return None
    if not keys:
        return None
    text = ", ".join(f"{key} {median(curves.columns[key]):.3g}" for key in keys[:3])
    return Symptom("stalled", 0.7, 0, len(curves) - 1, f"nothing has moved: {text}")


def _never_came_back(curves: Curves, game: Game) -> Symptom | None:
    """A loss that blew up at some time and has rested far above its beginnings ever since."""
    for key in curves.starting("loss/"):
        values = curves.columns[key]
        rows = np.flatnonzero(np.isfinite(values))
        seen = values[rows]
        if game.kind == "single":
            start, peak, late = seen[0], seen.max(), float(np.median(seen[-len(seen) // 4 :]))
            above = start + max(0.5 * abs(start), 2 * spread(values, -(len(values) // 4)))
            far = peak > 10 * abs(start) and late > above
            lost = peak > 1e6 * abs(start) and late > 1.5 * abs(start)
            if start == 0 or not (far or lost):
                continue
            text = f"{key} began at {start:.3g}, blew up to {peak:.3g} and rests at {late:.3g}"
            return Symptom("divergence", 0.8, int(rows[seen.argmax()]), len(curves) - 1, text)
        if key == "loss/discriminator" and game.kind == "classifier" and game.equilibrium:
            limit = 20 * game.equilibrium
            first = lasting(values > limit, np.isfinite(values), 0.5)
            if first is not None:
                text = (
                    f"{key} {median(values, first):.3g}, more than 20 times {game.equilibrium:.3g}"
                )
                return Symptom("divergence", 0.8, first, len(curves) - 1, text)
    return None


def _without_end(curves: Curves, game: Game) -> Symptom | None:
    """A Wasserstein estimate that rises to the end about as fast as a straight line, or faster.

    That of a constrained critic rises for some steps and then falls or rests, whatever its scale.
    What its generator does not follow at all is no divergence: the critic is too strong.
    """
    values = curves.get("wasserstein")
    if game.kind != "critic" or values is None or is_young(curves) or generator_is_still(curves):
        return None
    smoothed = smooth(values)
    seen = smoothed[np.isfinite(smoothed)]
    if len(seen) < 12:
        return None
    quarters = [float(np.median(part)) for part in np.array_split(seen, 4)]
    ratios = [b / a if a > 0 else 0.0 for a, b in itertools.pairwise(quarters)]
    start, late = float(np.median(seen[: max(3, len(seen) // 10)])), float(np.median(seen[-3:]))
    if not (min(ratios) > 1.25 and late > 8 * abs(start)):
        return None
    text = f"wasserstein has risen from {start:.3g} to {late:.3g}, and is still rising"
    return Symptom("divergence", 0.7, len(curves) // 4, len(curves) - 1, text)


def _multiplying(curves: Curves, game: Game) -> Symptom | None:
    """A signal of any name that grows exponentially to the end, if no other rule judges it.

    Rates and scales may be made to: they are settings, no measurements. A beaten player's loss may
    climb far, and that of a critic may drift, but not like this.
    """
    judged = _JUDGED if game.kind == "critic" else ("loss/", *_JUDGED)
    for key, values in curves.columns.items():
        if key in CLOCKS or key.startswith((*COUNTERS, *judged)) or _SETTING.search(key):
            continue
        sizes = np.abs(values)
        factor = exponential(sizes)
        if factor is not None and median(sizes, -3) > 100 and not is_held_out(key):
            text = f"{key} grew to {median(values, -3):.3g}, {factor:.3g} times its size at first"
            return Symptom("divergence", 0.7, len(curves) // 4, len(curves) - 1, text)
    return None


def _ordinary_swing(part: np.ndarray, game: Game) -> float:
    """How far a loss or value may swing: half of its size, where it has one."""
    part = part[np.isfinite(part)]
    if not len(part):
        return float("inf")
    half = 0.5 * median(np.abs(part))
    if game.kind == "single":
        # A difference that lies around zero, as contrastive divergence logs, has no size.
        return half if part.min() > 0 or part.max() < 0 else float("inf")
    return max(half, 0.3) if game.kind == "classifier" else half


def _matters(key: str) -> bool:
    return not key.startswith(("seconds", "lr/", "steps/"))


def _growing_keys(curves: Curves, game: Game) -> list[tuple[str, float, float, float]]:
    """Keys that must not grow: with the factor that is too much, and the sizes that are nothing."""
    norms = [(key, 100.0, 0.01, 10.0) for key in curves.starting("grad_norm/")]
    # What grows on held-out examples alone is learning by heart, which is another finding.
    losses = [key for key in curves.starting("loss/") if not is_held_out(key)]
    if game.kind == "single":
        return [(key, 5.0, 1e-9, 0.0) for key in losses] + norms
    if game.kind == "critic":
        # A critic's values have no zero: the generator's loss may drift anywhere.
        # The distance itself falls as a generator learns; what rises for ever is the slope.
        factors = {"wasserstein": 5.0, "loss/discriminator": 30.0}
        return [(k, f, 10.0, 100.0) for k, f in factors.items() if curves.has(k)] + norms
    if curves.starting("began/"):
        keys = [key for key in ("score/real", "began/m_global") if curves.has(key)]
        return [(key, 10.0, 1e-9, 0.0) for key in keys] + norms
    # A beaten player's loss climbs; that is another finding, unless it knows no bound at all.
    beaten = set()
    if too_strong(curves, game) is not None:
        beaten = {"loss/generator", "grad_norm/generator"}
    elif too_weak(curves, game) is not None:
        beaten = {"loss/discriminator", "grad_norm/discriminator"}
    needed = [(key, 15.0, 0.7, 10.0) for key in losses] + norms
    return [(k, 1000.0 if k in beaten else f, floor, least) for k, f, floor, least in needed]


def _resting_place(curves: Curves, game: Game, late: int) -> str | None:
    """Where a quiet run rests, if that is where nobody learns; None if it got somewhere."""
    if game.kind == "critic":
        gap = curves.get("wasserstein")
        if gap is None:
            return None
        rest, most = abs(median(gap, late)), largest(gap)
        return f"wasserstein {rest:.2g}" if rest <= max(0.05 * most, 1e-3) else None
    if game.kind == "classifier":
        real, fake = median(curves.get("score/real"), late), median(curves.get("score/fake"), late)
        if np.isfinite(real) and np.isfinite(fake):
            resting = abs(real - 0.5) < 0.1 and abs(real - fake) < 0.05
            return f"score/real {real:.2f} and score/fake {fake:.2f}, flat" if resting else None
        loss = median(curves.get("loss/discriminator"), late)
        if game.equilibrium is not None and abs(loss - game.equilibrium) < 0.05 * game.equilibrium:
            return f"loss/discriminator {loss:.3g}, flat"
        return None
    if game.kind == "energy":
        return "energies and losses flat"
    for key in curves.starting("loss/"):
        values = curves.columns[key]
        start, end = median(values, 0, max(2, len(values) // 20)), median(values, late)
        if abs(start - end) > 0.05 * max(abs(start), abs(end), 1e-12):
            return None
    return "losses flat, and never far from where they started"
