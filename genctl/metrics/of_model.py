"""What ``probe``, ``manifold`` and ``anomaly`` are told, and what the model was found to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from genctl.errors import UsageError

WAYS = ("likelihood", "reconstruction", "discriminator")
"""What an example's strangeness can be judged by; the first that a model can is the default."""

Array = NDArray[Any]


@dataclass(frozen=True)
class OfModel:
    """The knobs of the measures that work on the model itself.

    Attributes:
        probe_labels: labelled examples that the probes learn from, one experiment each.
        probe_draws: draws of those labels.
        manifold_delta: distance within which a picture is on the known manifold.
        anomaly_by: one of ``WAYS``; None: the first that the model can.
        anomaly_classes: labels of REAL that are anomalous; none: those left out in training.
        anomaly_data: instead a SPEC of anomalous examples.

    Raises:
        UsageError: a value out of range, or two kinds of anomalous examples.
    """

    probe_labels: Sequence[int] = (100, 1000)
    probe_draws: int = 5
    manifold_delta: float = 0.75
    anomaly_by: str | None = None
    anomaly_classes: Sequence[int] = ()
    anomaly_data: str | None = None

    def __post_init__(self) -> None:
        if not self.probe_labels or min(self.probe_labels) < 2:
            given = ",".join(map(str, self.probe_labels))
            raise UsageError(f"--probe-labels {given}", "at least 2 labels are needed", "100,1000")
        if self.probe_draws < 1:
            raise UsageError(f"--probe-draws {self.probe_draws}", "must be at least 1")
        if not (math.isfinite(self.manifold_delta) and self.manifold_delta > 0):
            raise UsageError(f"--manifold-delta {self.manifold_delta}", "must be above 0")
        if self.anomaly_by not in (None, *WAYS):
            raise UsageError(f"--anomaly-by {self.anomaly_by}", "unknown", " or ".join(WAYS))
        if self.anomaly_classes and self.anomaly_data is not None:
            raise UsageError(
                "--anomaly-class and --anomaly-data", "both are given", "leave one of them out"
            )


DEFAULTS = OfModel()


@dataclass(frozen=True)
class ProbeErrors:
    """Test errors of classifiers on several representations.

    Attributes:
        errors: by (representation, classifier, number of labels): one test error a draw of labels.
        features: whose the model's are, such as ``discriminator``.
        n_test: test examples.
        protocol: how it was done.
        reason: why there are none, if there are none.
        left_out: numbers of labels that nothing could be learned from, and why.
    """

    errors: dict[tuple[str, str, int], list[float]]
    features: str = ""
    n_test: int = 0
    protocol: dict[str, Any] = field(default_factory=dict)
    reason: str = "nothing was fitted"
    left_out: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ManifoldDistances:
    """Distances on a known manifold, grey levels in [0, 1].

    Attributes:
        to_manifold: ``(N,)`` of each generated picture.
        of_inverse: ``(M,)`` of each test picture to the nearest one that the generator was found to
            make; None where it cannot be inverted.
        protocol: how it was done.
    """

    to_manifold: Array
    of_inverse: Array | None
    protocol: dict[str, Any]


@dataclass(frozen=True)
class AnomalyScores:
    """Scores of normal and of anomalous examples, ``(N,)`` and ``(M,)``: high is anomalous."""

    normal: Array
    anomalous: Array
    protocol: dict[str, Any]
