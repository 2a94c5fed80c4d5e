"""What a model's features are worth for telling classes apart, from few labels.

Radford et al. 2016 (arXiv:1511.06434, section 5) train an L2-SVM on a discriminator's features.
Here the test error of a logistic regression and of an L2-SVM stands beside that of the same two on
pixels and on the features of a discriminator that was never trained, and beside fine-tuning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genctl.metrics.measure import Evidence, Measure, Settings, UndefinedError
from genctl.metrics.of_model import ProbeErrors

OF_MODEL = "model"
"""The representation under test; the baselines beside it have names of their own."""


def summary(found: ProbeErrors) -> dict[str, Any]:
    """Mean and standard deviation of the test error over draws of the labels.

    ``value`` is the logistic regression's on the model's features with the most labels, ``svm`` and
    ``fine_tuned`` the other classifiers'; ``pixels`` and ``untrained`` are the same as ``value`` on
    the two baselines.

    Raises:
        UndefinedError: nothing was fitted.
    """
    if not found.errors:
        raise UndefinedError(found.reason)
    rows: list[dict[str, Any]] = [
        {
            "features": features,
            "classifier": classifier,
            "labels": labels,
            "mean": float(np.mean(errors)),
            "std": float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
            "errors": errors,
        }
        for (features, classifier, labels), errors in found.errors.items()
    ]
    most = max(labels for _, _, labels in found.errors)
    means = {(r["features"], r["classifier"]): r for r in rows if r["labels"] == most}

    def of(features: str, classifier: str = "logistic", name: str = "mean") -> float | None:
        row = means.get((features, classifier))
        return None if row is None else row[name]

    return {
        "value": of(OF_MODEL),
        "std": of(OF_MODEL, name="std"),
        "svm": of(OF_MODEL, "svm"),
        "fine_tuned": of(OF_MODEL, "fine-tuned"),
        "pixels": of("pixels"),
        "untrained": of("untrained"),
        "labels": most,
        "n_test": found.n_test,
        "of": found.features,
        "rows": rows,
    }


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    if evidence.probe is None:
        raise UndefinedError("no classifier was fitted")
    entry = summary(evidence.probe)
    evidence.facts["probe"] = evidence.probe.protocol
    return entry


MEASURE = Measure(
    "probe",
    "test error of classifiers on the model's features, for few labels",
    ("probe",),
    (
        "value",
        "std",
        "svm",
        "fine_tuned",
        "pixels",
        "untrained",
        "labels",
        "n_test",
        "of",
        "rows",
    ),
    _take,
    on_request=True,
    better="smaller",
    words=("of", "rows"),
)
