"""Precision and recall for distributions (Sajjadi et al. 2018, arXiv:1806.00035).

Both sets are clustered together; the histograms of the clusters give the curve of attainable pairs
α(λ) = Σ min(λ·real, generated), β(λ) = α(λ) / λ. F_8 weighs recall, F_1/8 precision.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from genctl.metrics.measure import Array, Evidence, Measure, Settings, UndefinedError, as_matrix
from genctl.metrics.neighbours import Floats

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


def histograms(generated: Array, real: Array, clusters: int, seed: int) -> tuple[Floats, Floats]:
    """Share of each cluster in two sets that are clustered together."""
    from sklearn.cluster import MiniBatchKMeans  # a second to import

    union = np.concatenate([generated, real])
    machine = MiniBatchKMeans(n_clusters=clusters, n_init=10, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: some stay empty
        labels = machine.fit(union).labels_
    parts = labels[: len(generated)], labels[len(generated) :]
    first, second = (np.bincount(part, minlength=clusters) / len(part) for part in parts)
    return first, second


def of_features(generated: Array, real: Array, seed: int = 0) -> tuple[Floats, Floats]:
    """The curve of two sets of equal size, averaged over the clusterings.

    Raises:
        UndefinedError: sets of different sizes, or fewer rows than clusters.
    """
    if len(generated) != len(real):
        raise UndefinedError(f"sets of equal size are needed, not {len(generated)} and {len(real)}")
    if 2 * len(real) < CLUSTERS:
        raise UndefinedError(f"{CLUSTERS} clusters need {CLUSTERS // 2} examples a side")
    # Distances far from the origin would drown in the rounding of float32.
    centre = as_matrix(real).mean(axis=0)
    sides = [(as_matrix(side) - centre).astype(np.float32) for side in (generated, real)]
    curves = [
        curve(*histograms(sides[0], sides[1], CLUSTERS, seed + i)) for i in range(CLUSTERINGS)
    ]
    precision, recall = np.mean(curves, axis=0)
    return precision, recall


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    generated, real = evidence.pair()
    size = min(len(generated), len(real))
    rng = np.random.RandomState(settings.seed)
    if len(generated) != len(real):
        evidence.warn(
            f"prd: unequal sets would bias the clusters, so {size} examples a side are used"
        )
        generated, real = (
            side if len(side) == size else side[np.sort(rng.permutation(len(side))[:size])]
            for side in (generated, real)
        )
    precision, recall = of_features(generated, real, settings.seed)
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
