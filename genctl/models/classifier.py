"""A classifier: the user's own network for features, Inception scores and class agreement."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from genctl.contracts import ClassifierPart, GenerativeModel, LossResult, Update
from genctl.errors import DataError
from genctl.registry import default, register
from genctl.types import Batch, Batches, DataSpec

REMEDY = "give data with labels: a folder of class sub-folders, mnist:ROOT or digits"


@register("model", "classifier")
class Classifier(GenerativeModel):
    """Supervised classifier by cross-entropy; measures use its features and its classes.

    Args:
        spec: the data's facts; it must have at least two classes.
        network: gives features and logits.
        label_smoothing: share of the target spread evenly over the classes.
    """

    players = {"classifier": ("network",)}  # noqa: RUF012
    averaged = ("network",)

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: ClassifierPart = default("classifier", "conv"),
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if spec.classes < 2:
            found = "no labels" if spec.classes == 0 else "one class only"
            raise DataError("a classifier's data", f"has {found}, at least 2 are needed", REMEDY)
        self.network = network(spec.shape, spec.classes)
        self.label_smoothing = label_smoothing

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Minimise the cross-entropy of the labels."""

        def classifier_loss(batch: Batch) -> LossResult:
            logits = self.classify(batch.x)
            labels = _labels(batch)
            known = (labels >= 0).sum().clamp(min=1)
            correct = (logits.argmax(1) == labels).sum() / known
            return self.cross_entropy(logits, labels).sum() / known, {"accuracy": correct.detach()}

        update("classifier", classifier_loss, next(batches))
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
        logits: Tensor = self.network(x)[1]
        return logits

    def features(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` in [−1, 1] → ``(N, F)``, the layer before the logits."""
        features: Tensor = self.network(x)[0]
        return features


def _labels(batch: Batch) -> Tensor:
    if batch.y is None:
        raise DataError("a classifier's data", "has no labels", REMEDY)
    return batch.y
