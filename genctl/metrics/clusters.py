"""How well clusters that nobody labelled agree with labels: InfoGAN's categorical code, say.

``value`` gives each cluster a class of its own, the assignment that is right most often (the usual
clustering accuracy). ``majority`` gives each cluster the class that most of its examples have, so
that several may share one; it is never smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from genctl.metrics.measure import Evidence, Measure, Predictions, Settings, UndefinedError


def summary(found: Predictions) -> dict[str, Any]:
    """Both accuracies over the labelled examples, and how many clusters hold any.

    Raises:
        UndefinedError: no example has a label.
    """
    labelled = found.true >= 0
    cluster, true = found.predicted[labelled], found.true[labelled]
    if not len(true):
        raise UndefinedError("no held-out example has a label")
    counts = np.zeros((cluster.max() + 1, true.max() + 1), dtype=np.int64)
    np.add.at(counts, (cluster, true), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {
        "value": float(counts[rows, columns].sum() / len(true)),
        "majority": float(counts.max(1).sum() / len(true)),
        "clusters": int((counts.sum(1) > 0).sum()),
        "n": len(true),
    }


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    if evidence.clusters is None:
        raise UndefinedError("nothing was clustered")
    entry = summary(evidence.clusters)
    evidence.facts["clusters"] = {"split": evidence.clusters.split, **evidence.clusters.data}
    return entry


MEASURE = Measure(
    "clusters",
    "share of held-out examples whose cluster, found without labels, stands for their class",
    ("clusters",),
    ("value", "majority", "clusters", "n"),
    _take,
    better="larger",
)
