"""Precision and recall on a manifold that is known, so that distances to it can be computed.

Lucic et al. 2018 (arXiv:1711.10337, section 5.1): precision is the share of samples within δ of the
manifold; recall is the share of test pictures within δ of what the generator can make, found by
inverting it; both measured on pictures of grey triangles. Their F₁ is one number for both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genctl.metrics.measure import Array, Evidence, Measure, Settings, UndefinedError


def summary(to_manifold: Array, of_inverse: Array | None, delta: float) -> dict[str, Any]:
    """Precision, recall and F₁ for one δ, with binomial standard errors and median distances.

    Distances that were found by search can only be too large, so both shares are lower bounds.

    Raises:
        UndefinedError: there is no sample.
    """
    if not len(to_manifold):
        raise UndefinedError("no sample")
    precision, precision_error = _share(to_manifold, delta)
    entry: dict[str, Any] = {
        "f1": None,
        "precision": precision,
        "precision_error": precision_error,
        "recall": None,
        "recall_error": None,
        "delta": delta,
        "median_to_manifold": _median(to_manifold),
        "median_of_inverse": None,
        "n_generated": len(to_manifold),
        "n_test": 0,
    }
    if of_inverse is not None and len(of_inverse):
        recall, recall_error = _share(of_inverse, delta)
        total = precision + recall
        entry |= {
            "f1": 2 * precision * recall / total if total else 0.0,
            "recall": recall,
            "recall_error": recall_error,
            "median_of_inverse": _median(of_inverse),
            "n_test": len(of_inverse),
        }
    return entry


def _share(distances: Array, delta: float) -> tuple[float, float]:
    """Share within δ and its standard error; what is not finite is far away."""
    share = float((distances <= delta).mean())
    return share, math.sqrt(share * (1 - share) / len(distances))


def _median(distances: Array) -> float | None:
    finite = distances[np.isfinite(distances)]
    return float(np.median(finite)) if len(finite) else None


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    found = evidence.manifold
    if found is None:
        raise UndefinedError("no distance was computed")
    entry = summary(found.to_manifold, found.of_inverse, settings.of_model.manifold_delta)
    told = {name: entry[name] for name in ("delta", "n_generated", "n_test")}
    evidence.facts["manifold"] = {**found.protocol, **told}
    return entry


MEASURE = Measure(
    "manifold",
    "precision and recall on a known manifold: samples near it, test pictures that can be made",
    ("manifold",),
    (
        "f1",
        "precision",
        "precision_error",
        "recall",
        "recall_error",
        "delta",
        "median_to_manifold",
        "median_of_inverse",
        "n_generated",
        "n_test",
    ),
    _take,
    on_request=True,
    better="larger",
)
