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
from genctl.metrics.rows import in_blocks

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
    order = np.random.RandomState(SHUFFLE_SEED).permutation(n) if shuffle else np.arange(n)
    bounds = [i * n // splits for i in range(splits + 1)]
    return np.array([_score(log_probabilities, np.sort(order[a:b])) for a, b in pairwise(bounds)])


def _score(log_probabilities: Array, rows: Array) -> float:
    """``E_x KL(p(y|x) ‖ p(y))`` is the entropy of the mean less the mean entropy: sums alone."""
    total = np.zeros(log_probabilities.shape[1])
    sure = 0.0
    for log_p in in_blocks(log_probabilities, rows):
        p = np.exp(log_p)
        total += p.sum(axis=0)
        sure += float((p * np.where(p > 0, log_p, 0.0)).sum())  # 0 log 0 = 0
    marginal = total / len(rows)
    # A class that never occurs takes no part.
    spread = float(marginal @ np.log(np.where(marginal > 0, marginal, 1.0)))
    return float(np.exp(max(0.0, sure / len(rows) - spread)))


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
