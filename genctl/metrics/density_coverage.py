"""Density and coverage (Naeem et al. 2020, arXiv:2002.09797), over balls of real rows only.

A ball's edge is outside (<), as in the authors' code: identical sets have density 1 on average.
"""

from __future__ import annotations

from typing import Any

from genctl.metrics import manifolds
from genctl.metrics.measure import Evidence, Measure, Settings, UndefinedError


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    _, real = evidence.pair()
    _, found = manifolds.of(evidence, settings)
    k = manifolds.DC_K
    if found is None:
        raise UndefinedError(f"k = {k} other examples need {k + 1} real ones, found {len(real)}")
    if found.zero:
        evidence.warn(
            f"dc: {found.zero} of {len(real)} real examples have {k} duplicates or more, so their "
            "balls have radius 0 and hold nothing (inside is <)"
        )
    evidence.facts["dc"] = {"k": k, "inside": "<"}
    return {"density": found.density, "coverage": found.coverage, "k": k}


MEASURE = Measure(
    "dc",
    "how densely generated examples lie around real ones, and the share of real ones covered",
    ("generated", "real"),
    ("density", "coverage", "k"),
    _take,
    asked_by="pr",
    better="larger",
)
