"""Frozen records that travel between the rooms. Nothing here computes or imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

LikelihoodKind = Literal["exact", "lower_bound", "estimate"]


@dataclass(frozen=True)
class DataSpec:
    """The facts of a data set that decide a model's shape; kept in ``config.yaml``.

    Attributes:
        kind: ``image`` for uint8 pictures, ``points`` for real-valued toy points.
        shape: one example without the batch axis, ``(C, H, W)`` or ``(D,)``.
        classes: number of labels, 0 when the data has none.
        class_names: the labels' names, in label order, when the source names them.
        levels: distinct values of one image channel: 256, or 2 for binarised images. Points have 0.
    """

    kind: Literal["image", "points"]
    shape: tuple[int, ...]
    classes: int = 0
    class_names: tuple[str, ...] = ()
    levels: int = 256

    @property
    def dimensions(self) -> int:
        """Number of scalar variables in one example."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Batch:
    """Examples on the device, ready for a model. Absent parts are None.

    Attributes:
        x: ``(N, C, H, W)`` in [−1, 1] for images, the house's one range; ``(N, D)`` for points.
        y: ``(N,)`` int64 labels; −1 marks an unlabelled example.
        condition: whatever the model is conditioned on besides ``y``.
        target: the desired output of a translation.
        mask: ``(N, 1, H, W)``, 1 where a value is given.
        index: ``(N,)`` int64 position of each example in the data set.
    """

    x: Tensor
    y: Tensor | None = None
    condition: Tensor | None = None
    target: Tensor | None = None
    mask: Tensor | None = None
    index: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]


Batches = Iterator[Batch]


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihoods of a batch.

    Attributes:
        values: ``(N,)`` log p(x) in nats for one example each (higher is better). Discrete data:
            log-probability of the integer levels; points: log-density.
        kind: whether the values are exact, a lower bound, or an estimate.
        detail: how they were obtained (``importance-weighted, k = 128``), for the protocol.
    """

    values: Tensor
    kind: LikelihoodKind
    detail: str = ""


@dataclass(frozen=True)
class Discrimination:
    """What a discriminator says of a batch.

    Attributes:
        score: ``(N,)`` or ``(N, …)`` logit, critic value or energy; never a probability.
        features: ``(N, F)`` representation before the last layer, for feature matching and probes.
    """

    score: Tensor
    features: Tensor | None = None


@dataclass(frozen=True)
class NextStep:
    """What a player's optimiser is about to do, for models that look ahead.

    Attributes:
        kind: as in ``optim.<player>.kind``.
        settings: its numbers by torch's names, with the ``lr`` of the next update.
        moments: for each parameter what the optimiser keeps of the past, by torch's names; empty
            before its first update. The optimiser's own tensors: read, never written.
        clip: largest norm of all gradients together, to which they are scaled down; or None.
    """

    kind: str
    settings: Mapping[str, Any]
    moments: Sequence[Mapping[str, Tensor]]
    clip: float | None = None
