"""Share of held-out examples that a classifier names rightly.

Every number made with a user's own classifier (`fd`, `is`) is as good as that classifier, so its
accuracy is a measure of its own.
"""

from __future__ import annotations

import math
from typing import Any

from genctl.metrics.measure import Evidence, Measure, Predictions, Settings, UndefinedError


def summary(found: Predictions) -> dict[str, Any]:
    """Accuracy over the labelled examples, with its standard error.

    Raises:
        UndefinedError: no example has a label.
    """
    labelled = found.true >= 0
    n = int(labelled.sum())
    if not n:
        raise UndefinedError("no held-out example has a label")
    value = float((found.predicted == found.true)[labelled].mean())
    error = math.sqrt(value * (1.0 - value) / n)
    return {"value": value, "standard_error": error, "n": n}


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    if evidence.predictions is None:
        raise UndefinedError("nothing was classified")
    entry = summary(evidence.predictions)
    evidence.facts["accuracy"] = {"split": evidence.predictions.split, **evidence.predictions.data}
    return entry


MEASURE = Measure(
    "accuracy",
    "share of held-out examples that a classifier run names rightly",
    ("labels",),
    ("value", "standard_error", "n"),
    _take,
    better="larger",
)
