"""Precision and recall for distributions (Sajjadi et al. 2018, arXiv:1806.00035).

Both sets are clustered together; the histograms of the clusters give the curve of attainable pairs
α(λ) = Σ min(λ·real, generated), β(λ) = α(λ) / λ. F_8 weighs recall, F_1/8 precision.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from genctl.data.cache import forget
from genctl.metrics.measure import Array, Evidence, Measure, Settings, UndefinedError
from genctl.metrics.neighbours import Floats
from genctl.metrics.rows import Rows, in_blocks, mean_of

CLUSTERS = 20
CLUSTERINGS = 10
ANGLES = 1001
BETA = 8.0
_EPSILON = 1e-10
_SHOWN = slice(None, None, 10)
"""Of the angles, those whose points stand in the report: 101."""


def curve(generated: Array, real: Array, angles: int = ANGLES) -> tuple[Floats, Floats]:
    """Precision and recall ``(angles,)`` each, of two histograms that sum to 1."""
    slope = np.tan(np.linspace(_EPSILON, np.pi / 2 - _EPSILON, angles))
    precision = np.minimum(slope[:, None] * np.asarray(real), np.asarray(generated)).sum(axis=1)
    recall = precision / slope
    return precision.clip(0.0, 1.0), recall.clip(0.0, 1.0)


def f_score(precision: Floats, recall: Floats, beta: float) -> float:
    """The largest F_β = (1 + β²) p r / (β² p + r) over a curve; 0 where both are 0."""
    below = beta**2 * precision + recall
    scores = (1 + beta**2) * precision * recall / np.where(below > 0, below, 1.0)
    return float(scores.max())


def histograms(union: Array, generated: int, clusters: int, seed: int) -> tuple[Floats, Floats]:
    """Share of each cluster in two sets that are clustered together, one after the other."""
    from sklearn.cluster import MiniBatchKMeans  # a second to import

    machine = MiniBatchKMeans(n_clusters=clusters, n_init=10, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: some stay empty
        labels = machine.fit(union).labels_
    forget(union)
    parts = labels[:generated], labels[generated:]
    first, second = (np.bincount(part, minlength=clusters) / len(part) for part in parts)
    return first, second


def of_features(
    generated: Array, real: Array, seed: int = 0, chosen: tuple[Array, Array] | None = None
) -> tuple[Floats, Floats]:
    """The curve of two sets of equal size, or of chosen rows, averaged over the clusterings.

    Raises:
        UndefinedError: sets of different sizes, or fewer rows than clusters.
    """
    rows = chosen or (np.arange(len(generated)), np.arange(len(real)))
    size = len(rows[1])
    if len(rows[0]) != size:
        raise UndefinedError(f"sets of equal size are needed, not {len(rows[0])} and {size}")
    if 2 * size < CLUSTERS:
        raise UndefinedError(f"{CLUSTERS} clusters need {CLUSTERS // 2} examples a side")
    # In float64 about the mean: far from the origin distances would drown in rounding, and of
    # float32 scikit-learn makes float64 anew at every distance, which takes twice the time.
    centre = mean_of(real, rows[1])
    both = Rows()
    for side, which in zip((generated, real), rows, strict=True):
        for block in in_blocks(side, which):
            both.append(block - centre)
    union = both.whole()
    curves = [curve(*histograms(union, size, CLUSTERS, seed + i)) for i in range(CLUSTERINGS)]
    precision, recall = np.mean(curves, axis=0)
    return precision, recall


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    generated, real = evidence.pair()
    size = min(len(generated), len(real))
    chosen = None
    if len(generated) != len(real):
        rng = np.random.RandomState(settings.seed)
        evidence.warn(
            f"prd: unequal sets would bias the clusters, so {size} examples a side are used"
        )
        first, second = (
            np.arange(size) if len(side) == size else np.sort(rng.permutation(len(side))[:size])
            for side in (generated, real)
        )
        chosen = first, second
    precision, recall = of_features(generated, real, settings.seed, chosen)
    evidence.facts["prd"] = {"n": size, "clusters": CLUSTERS, "clusterings": CLUSTERINGS}
    return {
        "f8": f_score(precision, recall, BETA),
        "f1_8": f_score(precision, recall, 1 / BETA),
        "f1": f_score(precision, recall, 1.0),
        "curve": {
            "precision": precision[_SHOWN].round(6).tolist(),
            "recall": recall[_SHOWN].round(6).tolist(),
        },
    }


MEASURE = Measure(
    "prd",
    "precision and recall of clusters: F8 (recall), F1/8 (precision), F1, and the curve",
    ("generated", "real"),
    ("f8", "f1_8", "f1"),
    _take,
    better="larger",
    words=("curve", "picture"),
)
