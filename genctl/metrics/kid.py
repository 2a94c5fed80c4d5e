"""Kernel Inception distance: an unbiased estimate of MMD² with a cubic polynomial kernel.

arXiv:1801.01401, sec. 4: ``k(x, y) = (x·y / D + 1)³``, the U-statistic within and the V-statistic
between the sets, averaged over random subsets. It is unbiased, so it may be slightly negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genctl.metrics.measure import Array, Evidence, Measure, Settings, UndefinedError
from genctl.metrics.rows import BLOCK, in_blocks

SUBSET_SEED = 2020
"""The subsets of torch-fidelity, so that equal features give equal numbers."""


def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, D)``, ``(M, D)`` → ``(N, M)`` values of ``(x·y / D + 1)³``."""
    value = x @ y.T
    value /= x.shape[1]
    value += 1.0
    return value * value * value


def mmd2(x: Array, y: Array, chosen: tuple[Array, Array] | None = None) -> float:
    """Unbiased MMD² of two sets, which may differ in size, or of the chosen rows of each.

    The kernel is never formed as a whole, but in blocks.

    Raises:
        UndefinedError: fewer than two rows on one side.
    """
    rows, others = chosen or (np.arange(len(x)), np.arange(len(y)))
    n, m = len(rows), len(others)
    if min(n, m) < 2:
        raise UndefinedError(f"KID needs at least 2 examples a side, found {n} and {m}")
    between = sum(
        float(kernel(a, b).sum()) for a in in_blocks(x, rows) for b in in_blocks(y, others)
    )
    return _within(x, rows) + _within(y, others) - 2.0 * between / (n * m)


def subset_values(x: Array, y: Array, *, subsets: int, size: int) -> NDArray[np.float64]:
    """MMD² of random subsets of ``size`` rows, drawn without replacement."""
    if len(x) == size == len(y):  # every subset is the whole set
        return np.full(subsets, mmd2(x, y))
    rng = np.random.RandomState(SUBSET_SEED)
    values = np.empty(subsets)
    for i in range(subsets):
        rows_x = rng.choice(len(x), size, replace=False)
        rows_y = rng.choice(len(y), size, replace=False)
        values[i] = mmd2(x, y, (rows_x, rows_y))
    return values


def _within(x: Array, rows: Array) -> float:
    """Mean of the kernel over pairs of different ones of the rows."""
    total = 0.0
    for i, a in enumerate(in_blocks(x, rows)):
        gram = kernel(a, a)
        total += float(gram.sum() - np.trace(gram))
        for b in in_blocks(x, rows[(i + 1) * BLOCK :]):  # the kernel is symmetric
            total += 2.0 * float(kernel(a, b).sum())
    return total / (len(rows) * (len(rows) - 1))


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    generated, real = evidence.pair()
    size = min(settings.kid_subset_size, len(generated), len(real))
    if size < 2:
        raise UndefinedError(
            f"KID needs at least 2 examples a side, found {len(generated)} and {len(real)}"
        )
    if size < settings.kid_subset_size:
        evidence.warn(
            f"KID: subsets of {settings.kid_subset_size} do not fit {len(generated)} generated and "
            f"{len(real)} real examples; subsets of {size} are used"
        )
    values = subset_values(generated, real, subsets=settings.kid_subsets, size=size)
    evidence.facts["kid"] = {"subsets": settings.kid_subsets, "subset_size": size}
    return {"mean": float(values.mean()), "std": float(values.std())}


MEASURE = Measure(
    "kid",
    "kernel distance (unbiased MMD²) of features over random subsets",
    ("generated", "real"),
    ("mean", "std"),
    _take,
    better="smaller",
)
