"""Class agreement: how often a classifier sees in a sample the label it was asked for.

The ceiling is the classifier's own accuracy on real test examples, given beside it where REAL has
labels.
"""

from __future__ import annotations

from typing import Any

from genctl.metrics import accuracy
from genctl.metrics.measure import Evidence, Measure, Predictions, Settings, UndefinedError


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    generated, asked = evidence.generated, evidence.asked
    if generated is None or generated.log_probabilities is None:
        raise UndefinedError("the features have no classes: give --features RUN of a classifier")
    if asked is None:
        raise UndefinedError("the generated side was asked for no labels")
    seen = generated.log_probabilities
    if int(asked.max()) >= seen.shape[1]:
        raise UndefinedError(f"asked for {int(asked.max()) + 1} classes, seen {seen.shape[1]}")
    entry = accuracy.summary(Predictions(seen.argmax(1), asked, "samples"))
    return {**entry, **_ceiling(evidence)}


def _ceiling(evidence: Evidence) -> dict[str, Any]:
    """The same classifier's accuracy on real test examples; nulls where none has a label."""
    real = evidence.ceiling
    if real is None or not (real.true >= 0).any():
        return {"ceiling": None, "ceiling_n": 0}
    entry = accuracy.summary(real)
    ceiling = f"real examples of the {real.split} part"
    evidence.facts["agreement"] = {"ceiling": ceiling, **real.data}
    return {"ceiling": entry["value"], "ceiling_n": entry["n"]}


MEASURE = Measure(
    "agreement",
    "share of a conditional run's samples in which a classifier run sees the label asked for",
    ("generated", "classes", "asked"),
    ("value", "standard_error", "n", "ceiling", "ceiling_n"),
    _take,
    better="larger",
)
