"""A classifier: the user's own network for features, Inception scores and class agreement."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from genctl.contracts import ClassifierPart, GenerativeModel, LossResult, Update
from genctl.errors import DataError
from genctl.models.labelled_examples import REMEDY, LabelledExamples
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batch, Batches, DataSpec


@register("model", "classifier")
class Classifier(GenerativeModel):
    """Supervised classifier by cross-entropy; measures use its features and its classes.

    Args:
        spec: the data's facts; it must have at least two classes.
        network: gives features and logits.
        label_smoothing: share of the target spread evenly over the classes.
        labels: learn from so many labelled examples only, spread evenly over the classes and
            chosen by the run's seed; null: from all. What few labels are worth by themselves.
    """

    players = {"classifier": ("network",)}  # noqa: RUF012
    averaged = ("network",)

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: ClassifierPart = default("classifier", "conv"),
        label_smoothing: float = 0.0,
        labels: Annotated[int, Field(ge=2)] | None = None,
    ) -> None:
        super().__init__()
        if spec.classes < 2:
            found = "no labels" if spec.classes == 0 else "one class only"
            raise DataError("a classifier's data", f"has {found}, at least 2 are needed", REMEDY)
        self.labelled = None if labels is None else LabelledExamples(spec, labels)
        self.network = network(spec.shape, spec.classes)
        self.label_smoothing = label_smoothing

    def initialise(self, batches: Batches, rng: RandomStream) -> None:
        """Choose the labelled examples, if only some are; let a network that starts from data."""
        if self.labelled is not None:
            self.labelled.choose(batches)
        start = getattr(self.network, "initialise", None)
        if start is not None:
            start(next(batches).x if self.labelled is None else self.labelled.x, rng)

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Minimise the cross-entropy of the labels."""

        def classifier_loss(batch: Batch) -> LossResult:
            logits = self.classify(batch.x)
            labels = _labels(batch)
            known = (labels >= 0).sum().clamp(min=1)
            correct = (logits.argmax(1) == labels).sum() / known
            return self.cross_entropy(logits, labels).sum() / known, {"accuracy": correct.detach()}

        batch = next(batches)
        if self.labelled is not None:
            batch = Batch(*self.labelled.draw(len(batch), update.rng))
        update("classifier", classifier_loss, batch)
        return {}

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``(N, classes)``, ``(N,)`` → ``(N,)`` nats; 0 where the label is −1, unknown."""
        return F.cross_entropy(
            logits.float(),
            labels,
            ignore_index=-1,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )

    def classify(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` in [−1, 1] → ``(N, classes)`` logits."""
        return self.features_and_logits(x)[1]

    def features(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` in [−1, 1] → ``(N, F)``, the layer before the logits."""
        return self.features_and_logits(x)[0]

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both from one pass."""
        features, logits = self.network(x)
        return features, logits


def _labels(batch: Batch) -> Tensor:
    if batch.y is None:
        raise DataError("a classifier's data", "has no labels", REMEDY)
    return batch.y
