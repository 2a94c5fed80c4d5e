"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

Precision: share of generated rows inside any ball of real rows; recall: share of real rows inside
any ball of generated rows. A ball's edge is inside (≤).
"""

from __future__ import annotations

from typing import Any

from genctl.metrics import manifolds
from genctl.metrics.measure import Evidence, Measure, Settings


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    generated, real = evidence.pair()
    found, _ = manifolds.of(evidence, settings)
    k = settings.pr_k
    if found is None:
        raise manifolds.too_few(len(generated), len(real), k)
    for zero, rows, side in (
        (found.zero_generated, generated, "generated"),
        (found.zero_real, real, "real"),
    ):
        if zero:
            evidence.warn(
                f"pr: {zero} of {len(rows)} {side} examples have {k} duplicates or more, so their "
                "balls have radius 0 and hold only equal examples (inside is ≤)"
            )
    evidence.facts["pr"] = {"k": k, "inside": "<="}
    return {
        "precision": float(found.generated.mean()),
        "recall": float(found.real.mean()),
        "k": k,
    }


MEASURE = Measure(
    "pr",
    "share of generated examples near real ones (precision), and of real near generated (recall)",
    ("generated", "real"),
    ("precision", "recall", "k"),
    _take,
    better="larger",
)
