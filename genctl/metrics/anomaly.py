"""How well a score of the model's tells anomalous examples from normal ones.

The area under the ROC curve is the share of pairs, one of each kind, in which the anomalous example
scores higher. Its standard error is DeLong's (DeLong, DeLong and Clarke-Pearson 1988): the variance
of that share over the examples of either kind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genctl.metrics.measure import Array, Evidence, Measure, Settings, UndefinedError

Z = 1.959963984540054
"""Half the width of a 95 % interval in standard errors."""


def delong(normal: Array, anomalous: Array) -> tuple[float, float | None]:
    """Area under the ROC curve and its standard error, from mid-ranks (Sun and Xu 2014).

    Args:
        normal: ``(N,)`` scores.
        anomalous: ``(M,)`` scores; high is anomalous.

    Returns:
        The area, and its standard error: None where one side has a single example.
    """
    from scipy.stats import rankdata

    n, m = len(normal), len(anomalous)
    together = rankdata(np.concatenate([anomalous, normal]))
    # Of each example the share of the other side that it beats, ties counting one half.
    of_anomalous = (together[:m] - rankdata(anomalous)) / n
    of_normal = 1 - (together[m:] - rankdata(normal)) / m
    if min(n, m) < 2:
        return float(of_anomalous.mean()), None
    variance = of_anomalous.var(ddof=1) / m + of_normal.var(ddof=1) / n
    return float(of_anomalous.mean()), math.sqrt(variance)


def summary(normal: Array, anomalous: Array) -> dict[str, Any]:
    """AUROC with its 95 % interval, average precision, and the size of each side.

    Average precision depends on the share of anomalous examples: its value by chance is
    ``M / (N + M)``, given as ``chance_precision``.

    Raises:
        UndefinedError: one side is empty, or a score is no finite number.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    n, m = len(normal), len(anomalous)
    if not n or not m:
        raise UndefinedError(f"{n} normal and {m} anomalous examples: both kinds are needed")
    scores = np.concatenate([normal, anomalous]).astype(np.float64)
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise UndefinedError(f"{bad} of {n + m} scores are not finite")
    truth = np.concatenate([np.zeros(n), np.ones(m)])
    area = float(roc_auc_score(truth, scores))
    _, error = delong(scores[:n], scores[n:])
    low, high = (None, None) if error is None else (area - Z * error, area + Z * error)
    return {
        "auroc": area,
        "low": None if low is None else max(0.0, low),
        "high": None if high is None else min(1.0, high),
        "standard_error": error,
        "average_precision": float(average_precision_score(truth, scores)),
        "chance_precision": m / (n + m),
        "n_normal": n,
        "n_anomalous": m,
    }


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    found = evidence.anomaly
    if found is None:
        raise UndefinedError("no example was scored")
    evidence.facts["anomaly"] = found.protocol
    return {**summary(found.normal, found.anomalous), "by": found.protocol["by"]}


MEASURE = Measure(
    "anomaly",
    "how well the model tells anomalous examples from normal ones",
    ("anomaly",),
    (
        "auroc",
        "low",
        "high",
        "standard_error",
        "average_precision",
        "chance_precision",
        "n_normal",
        "n_anomalous",
        "by",
    ),
    _take,
    on_request=True,
    better="larger",
    words=("by",),
)
