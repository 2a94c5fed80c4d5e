"""Negative log-likelihood of held-out data, in nats an example and bits a dimension.

The values come from the model with their kind: exact, a bound from below on log p (so the number
here is a bound from above), or an estimate. For images they are log-probabilities of the integer
levels, which makes bits a dimension comparable between models; for points they are densities.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genctl.metrics.measure import Evidence, LogLikelihoods, Measure, Settings, UndefinedError


def summary(found: LogLikelihoods) -> dict[str, Any]:
    """Mean, standard error and units.

    Raises:
        UndefinedError: nothing was scored, or some example has no finite value.
    """
    values = np.asarray(found.values, dtype=np.float64)
    if not values.size:
        raise UndefinedError("no held-out example to score")
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UndefinedError(f"{bad} of {values.size} log-likelihoods are not finite")
    nats = -float(values.mean())
    error = float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else None
    return {
        "nats": nats,
        "bits_per_dim": nats / (found.dimensions * math.log(2)),
        "kind": found.kind,
        "standard_error": error,
        "n": int(values.size),
    }


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    if evidence.likelihood is None:
        raise UndefinedError("no likelihood was computed")
    entry = summary(evidence.likelihood)
    found = evidence.likelihood
    facts = {"split": found.split, "how": found.detail, "n": len(found.values)}
    evidence.facts["nll"] = {**facts, "dimensions": found.dimensions, **found.data}
    return entry


MEASURE = Measure(
    "nll",
    "negative log-likelihood of held-out data",
    ("likelihood",),
    ("nats", "bits_per_dim", "kind", "standard_error", "n"),
    _take,
    better="smaller",
    words=("kind",),
)
