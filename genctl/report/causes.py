"""Which of several findings is the verdict: the cause before its effect, otherwise the surest.

A game out of balance and a collapse often come together, and each can bring the other about: a
discriminator that is fooled lets the generator repeat what fools it, one that is always right gives
it no direction, and samples that are all alike are easily told from the data. What began first is
the cause.
"""

from __future__ import annotations

from collections.abc import Iterable

from genctl.report import balance, variety
from genctl.report.curves import Curves
from genctl.report.game import Game
from genctl.report.symptoms import Symptom

STRONG, WEAK, COLLAPSE = "discriminator-too-strong", "discriminator-too-weak", "mode-collapse"


def in_order(found: Iterable[Symptom], curves: Curves, game: Game) -> list[Symptom]:
    """One finding a kind, the one that explains the others first.

    Args:
        found: in the order of how much they spoil, which decides between equally sure ones.
        curves: the log.
        game: how it is read.
    """
    kinds: dict[str, Symptom] = {}
    for symptom in found:
        kinds.setdefault(symptom.kind, symptom)
    collapse = kinds.get(COLLAPSE)
    if collapse is None:
        return sorted(kinds.values(), key=lambda symptom: -symptom.confidence)
    lost = variety.lost_from(curves)
    if WEAK not in kinds and STRONG not in kinds:
        weak = balance.fooled(curves, game, collapse.first if lost is None else lost)
        if weak is not None:
            kinds[WEAK] = weak
    cause = _cause(kinds, len(curves) // 2 if lost is None else lost, curves, game)
    if cause is not None and lost is None:
        del kinds[COLLAPSE]  # there was no variety to lose: this generator never learned
    sure = {kind: symptom.confidence for kind, symptom in kinds.items()}
    before = cause if cause is not None else COLLAPSE
    # A cause is at least as sure as its effect; sorting keeps the order of equals.
    sure[before] = max(sure[kind] for kind in (STRONG, WEAK, COLLAPSE) if kind in sure)
    first = sorted(kinds.values(), key=lambda symptom: symptom.kind != before)
    return sorted(first, key=lambda symptom: -sure[symptom.kind])


def _cause(kinds: dict[str, Symptom], by: int, curves: Curves, game: Game) -> str | None:
    """The player that was out of balance by the row when the samples became alike, if one was.

    Samples that were never varied became so at no row; half of the log is then what it may take.
    """
    weak, strong = kinds.get(WEAK), kinds.get(STRONG)
    if weak is not None and weak.first <= by:
        return WEAK
    if strong is None:
        return None
    ahead = balance.ahead_from(curves, game)
    began = strong.first if ahead is None else min(ahead, strong.first)
    return STRONG if began <= by else None
