"""What a measure is, what it is given, and the table of all of them.

A measure is one file in this room that defines ``MEASURE``; the table finds it by itself. Inside
the file: pure functions from features to statistics to a value, and ``take``, which picks what it
needs from the evidence and returns the entry of the report.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from genctl.metrics.of_model import (
    DEFAULTS,
    AnomalyScores,
    ManifoldDistances,
    OfModel,
    ProbeErrors,
)

Need = Literal[
    "generated",
    "real",
    "classes",
    "asked",
    "likelihood",
    "labels",
    "clusters",
    "mixture",
    "probe",
    "manifold",
    "anomaly",
    "training",
]
"""What a measure asks for: features of generated images, features of real ones, class
probabilities of generated images, the labels that were asked of them; of held-out data
log-likelihoods, labels (predicted, true) and clusters (found, true label); the modes of a toy or
of stacked pictures; errors of classifiers on the model's features; distances to a known manifold
and of its inverse; scores of normal and anomalous examples; features of the whole training part."""

Array = NDArray[Any]
T = TypeVar("T")


class UndefinedError(Exception):
    """The measure has no value for this input; the report says null and why."""


@dataclass(frozen=True)
class Features:
    """One side of a comparison, seen through a feature extractor.

    Attributes:
        values: ``(N, D)`` features, or None when only probabilities are known.
        log_probabilities: ``(N, K)`` float64 log class probabilities, or None without classes.
    """

    values: Array | None
    log_probabilities: Array | None = None

    def __len__(self) -> int:
        known = self.values if self.values is not None else self.log_probabilities
        return 0 if known is None else len(known)


@dataclass(frozen=True)
class LogLikelihoods:
    """Log p(x) of held-out examples: ``values`` ``(N,)`` float64 nats, and of which kind.

    ``data`` says which examples they are, for the protocol: numbers of others mean another thing.
    """

    values: Array
    kind: str
    dimensions: int
    split: str
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """Predicted and true labels, ``(N,)`` int64 each, of held-out examples; ``data``: of which."""

    predicted: Array
    true: Array
    split: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stacked:
    """What is known of stacked pictures: ``classes`` of a channel, and real triples of labels."""

    classes: int
    real: Predictions | None


@dataclass(frozen=True)
class Settings:
    """The knobs of the measures, with the protocol's defaults."""

    is_splits: int = 10
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    of_model: OfModel = DEFAULTS
    pr_k: int = 3
    copy_threshold: float | None = None
    seed: int = 0


@dataclass
class Evidence:
    """Everything that was gathered for the measures; what was not asked for is None."""

    generated: Features | None = None
    real: Features | None = None
    asked: Array | None = None
    mixture: tuple[Array, float] | None = None
    """Centres ``(K, D)`` and standard deviation of the toy on the real side."""
    stacked: Stacked | None = None
    """What the real side is where it is no toy but three pictures as colours."""
    training: Features | None = None
    """The whole training part; with ``mirrored``, followed by its mirror images."""
    held_out: Features | None = None
    """Examples that were not trained on, likewise; or None where there are none."""
    mirrored: bool = False
    likelihood: LogLikelihoods | None = None
    predictions: Predictions | None = None
    clusters: Predictions | None = None
    probe: ProbeErrors | None = None
    manifold: ManifoldDistances | None = None
    anomaly: AnomalyScores | None = None
    ceiling: Predictions | None = None
    """What the classifier of the features says of real test examples."""
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What a measure adds to the protocol: the settings it really used."""
    _shared: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several measures are taken from, computed for the first of them."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found

    def warn(self, text: str) -> None:
        """Note something the reader of the numbers must know, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def pair(self) -> tuple[Array, Array]:
        """Features of generated and real examples.

        Raises:
            UndefinedError: one side has none, or they do not live in one space.
        """
        return _in_one_space(self.generated, self.real, "real")

    def against_training(self) -> tuple[Array, Array]:
        """Features of generated examples and of the training part; held-out ones are as wide.

        Raises:
            UndefinedError: one has none, or they do not live in one space.
        """
        if self.held_out is not None:
            _in_one_space(self.generated, self.held_out, "held-out")
        return _in_one_space(self.generated, self.training, "training")


def _in_one_space(
    generated: Features | None, other: Features | None, side: str
) -> tuple[Array, Array]:
    if generated is None or generated.values is None:
        raise UndefinedError("the generated side has no features")
    if other is None or other.values is None:
        raise UndefinedError(f"the {side} side has no features")
    first, second = generated.values, other.values
    if first.shape[1] != second.shape[1]:
        raise UndefinedError(f"features of {first.shape[1]} and of {second.shape[1]} dimensions")
    return first, second


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: its key in the report, and its flag without the dashes unless ``asked_by`` is set.
        summary: one line for lists and help.
        needs: what must be gathered for it.
        fields: what its entry holds; the first is what a gate on the bare name reads, unless the
            entry has ``value`` or ``mean``.
        take: evidence → entry.
        other_name: its key with features other than the standard Inception network's.
        better: which way its first number (``value``, ``mean``, or the first field) improves.
        asked_by: the measure whose flag asks for this one, too.
        on_request: taken only if asked for, never as part of everything that applies.
        words: what its entry holds that is no number, be it among ``fields`` or not.
    """

    name: str
    summary: str
    needs: Sequence[Need]
    fields: Sequence[str]
    take: Callable[[Evidence, Settings], dict[str, Any]]
    other_name: str | None = None
    better: Literal["smaller", "larger"] | None = None
    asked_by: str | None = None
    on_request: bool = False
    words: Sequence[str] = ()

    @property
    def numbers(self) -> list[str]:
        """The fields that a gate can be put on."""
        return [name for name in self.fields if name not in self.words]

    @property
    def flag(self) -> str:
        """Its option of the command line, without the dashes."""
        return self.asked_by or self.name

    def key(self, standard: bool) -> str:
        """The key in the report."""
        return self.name if standard or self.other_name is None else self.other_name

    def undefined(self, reason: str) -> dict[str, Any]:
        """The entry of a measure that has no value: every field null, and why."""
        return {**dict.fromkeys(self.fields), "reason": reason}


@cache
def table() -> dict[str, Measure]:
    """Every measure by name, in alphabetical order of their files."""
    package = importlib.import_module("genctl.metrics")
    found: dict[str, Measure] = {}
    for module in pkgutil.iter_modules(package.__path__):
        measure = getattr(
            importlib.import_module(f"{package.__name__}.{module.name}"), "MEASURE", None
        )
        if measure is None:
            continue
        if measure.name in found:
            raise RuntimeError(f"two measures are called {measure.name!r}")
        found[measure.name] = measure
    return found


def as_matrix(values: Array) -> NDArray[np.float64]:
    """``(N, D)`` in float64: statistics in float32 are wrong by per cents."""
    matrix = np.asarray(values, dtype=np.float64)
    return matrix[:, None] if matrix.ndim == 1 else matrix
