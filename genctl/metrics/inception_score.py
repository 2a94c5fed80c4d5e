"""Inception score: how sure a classifier is of each sample, and how varied the classes are.

arXiv:1606.03498, sec. 4: ``exp(E_x KL(p(y|x) ‖ p(y)))``, over splits of the samples. Mean and
standard deviation (ddof = 0) over the splits; the order is shuffled with a fixed seed first,
because samples sorted by class would score 1 in every split.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from genctl.metrics.measure import Array, Evidence, Measure, Settings, UndefinedError

SHUFFLE_SEED = 2020
"""The order of torch-fidelity, so that equal images give equal numbers."""


def log_softmax(logits: Array) -> NDArray[np.float64]:
    """``(N, K)`` logits → log-probabilities in float64 (float32 underflows to NaN)."""
    wide = np.asarray(logits, dtype=np.float64)
    return wide - logsumexp(wide, axis=1, keepdims=True)


def log_of(probabilities: Array) -> NDArray[np.float64]:
    """``(N, K)`` probabilities → log-probabilities; zeros become −inf and count nothing."""
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probabilities, dtype=np.float64))


def scores(log_probabilities: Array, splits: int, *, shuffle: bool = True) -> NDArray[np.float64]:
    """The score of each split; split i holds rows ``[i·N//splits, (i+1)·N//splits)``.

    Raises:
        UndefinedError: fewer examples than splits.
    """
    n = len(log_probabilities)
    if n < splits:
        raise UndefinedError(f"{n} examples cannot be split into {splits}; lower --is-splits")
    log_p = np.asarray(log_probabilities, dtype=np.float64)
    if shuffle:
        log_p = log_p[np.random.RandomState(SHUFFLE_SEED).permutation(n)]
    bounds = [i * n // splits for i in range(splits + 1)]
    return np.array([_score(log_p[a:b]) for a, b in pairwise(bounds)])


def _score(log_p: NDArray[np.float64]) -> float:
    p = np.exp(log_p)
    marginal = p.mean(axis=0)
    # 0 log 0 = 0, and a class that never occurs takes no part.
    ratio = np.where(p > 0, log_p, 0.0) - np.log(np.where(marginal > 0, marginal, 1.0))
    divergence = np.where(p > 0, p * ratio, 0.0).sum(axis=1)
    return float(np.exp(divergence.mean()))


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    if evidence.generated is None or evidence.generated.log_probabilities is None:
        raise UndefinedError("these features come without class probabilities")
    values = scores(evidence.generated.log_probabilities, settings.is_splits)
    evidence.facts["is"] = {"splits": settings.is_splits}
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "splits": settings.is_splits,
    }


MEASURE = Measure(
    "is",
    "Inception score, with the classes of the features",
    ("classes",),
    ("mean", "std", "splits"),
    _take,
    better="larger",
)
