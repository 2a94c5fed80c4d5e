"""The balls around generated and real features, which four measures are counts of.

A ball around a row reaches to its k-th nearest other row of the same set (improved precision and
recall: Kynkäänniemi et al. 2019, arXiv:1904.06991; density and coverage: Naeem et al. 2020,
arXiv:2002.09797). What is in which ball is found in one pass for all four.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genctl.metrics.measure import Array, Evidence, Settings, UndefinedError
from genctl.metrics.neighbours import Bools, blocks, radii

DC_K = 5
"""Neighbours of density and coverage."""


@dataclass(frozen=True)
class Support:
    """Which rows are where the other set is.

    Attributes:
        generated: ``(N,)`` whether a generated row is inside (≤) any ball of real rows.
        real: ``(M,)`` whether a real row is inside (≤) any ball of generated rows.
        zero_generated: balls of radius 0: rows with k duplicates or more.
        zero_real: likewise.
    """

    generated: Bools
    real: Bools
    zero_generated: int
    zero_real: int


@dataclass(frozen=True)
class Density:
    """How densely generated rows lie where real ones are.

    Attributes:
        density: real balls (<) that hold a generated row, over k: 1 on average for equal laws.
        coverage: share of the real balls that hold any generated row.
        zero: real balls of radius 0, which hold nothing.
    """

    density: float
    coverage: float
    zero: int


def both(generated: Array, real: Array, k: int, dc_k: int) -> tuple[Support | None, Density | None]:
    """Precision and recall with k, density and coverage with ``dc_k``.

    None where a set has no k other rows: k + 1 rows are the fewest.
    """
    supported = min(len(generated), len(real)) > k
    dense = len(real) > dc_k and len(generated) > 0
    if not (supported or dense):
        return None, None
    ks = ([k] if supported else []) + ([dc_k] if dense else [])
    limits = dict(zip(ks, radii(real, *ks), strict=True))
    own = radii(generated, k)[0] if supported else None
    inside = np.zeros(len(generated), dtype=bool)
    reached = np.zeros(len(real), dtype=bool)
    covered = np.zeros(len(real), dtype=bool)
    held = 0
    for block in blocks(generated, real):
        rows, columns = block.rows, block.columns
        if own is not None:
            inside[rows] |= block.within(limits[k][None, columns], closed=True).any(axis=1)
            reached[columns] |= block.within(own[rows, None], closed=True).any(axis=0)
        if dense:
            pairs = block.within(limits[dc_k][None, columns], closed=False)
            covered[columns] |= pairs.any(axis=0)
            held += int(pairs.sum())
    support = density = None
    if own is not None:
        support = Support(inside, reached, int((own == 0).sum()), int((limits[k] == 0).sum()))
    if dense:
        zero = int((limits[dc_k] == 0).sum())
        density = Density(held / (dc_k * len(generated)), float(covered.mean()), zero)
    return support, density


def of(evidence: Evidence, settings: Settings) -> tuple[Support | None, Density | None]:
    """The same of what was gathered, once for all measures that ask.

    Raises:
        UndefinedError: one side has no features, or they do not live in one space.
    """
    generated, real = evidence.pair()
    return evidence.once("manifolds", lambda: both(generated, real, settings.pr_k, DC_K))


def too_few(generated: int, real: int, k: int) -> UndefinedError:
    """The reason where there are not enough rows."""
    return UndefinedError(
        f"k = {k} other examples need {k + 1} a side, found {generated} generated and {real} real"
    )
