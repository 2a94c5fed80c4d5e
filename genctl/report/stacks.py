"""What a classifier makes of real stacked pictures, beside which generated ones are counted."""

from __future__ import annotations

from collections.abc import Callable

from genctl.data.dataset import Dataset
from genctl.metrics.measure import Features, Predictions, Stacked
from genctl.report.gather import Gathered
from genctl.report.sides import Examples


def see(
    found: Gathered,
    dataset: Dataset,
    batch_size: int,
    features: Callable[[Gathered, Examples, int], Features],
) -> Stacked:
    """The labels that the classifier gives to real test triples, and their own."""
    side = found.triples
    if side is None:
        return Stacked(dataset.channel_classes, None)
    seen = features(found, side, batch_size).log_probabilities
    labels = side.dataset.labels
    assert labels is not None
    if seen is None:
        return Stacked(dataset.channel_classes, None)
    real = Predictions(seen.argmax(1), labels[side.rows].numpy(), side.dataset.split)
    return Stacked(dataset.channel_classes, real)
