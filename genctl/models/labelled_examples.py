"""A few labelled examples, chosen once and kept with the weights; the other labels stay hidden."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genctl.errors import ConfigError, DataError
from genctl.randomness import RandomStream
from genctl.types import Batches, DataSpec

REMEDY = "give data with labels: a folder of class sub-folders, mnist:ROOT or digits"


class LabelledExamples(nn.Module):
    """The first examples of each class in the run's random order: equal on every rank.

    They are buffers, so that a checkpoint holds them, and a run that goes on sees the same ones.

    Args:
        spec: the data's facts.
        size: how many in all; classes differ by one at most.

    Attributes:
        x: ``(size, *shape)``.
        y: ``(size,)`` their labels.
        index: ``(size,)`` their positions in the data set, for the record.

    Raises:
        DataError: the data has no labels.
        ConfigError: fewer examples than classes.
    """

    x: Tensor
    y: Tensor
    index: Tensor

    def __init__(self, spec: DataSpec, size: int) -> None:
        super().__init__()
        if spec.classes < 2:
            found = "no labels" if spec.classes == 0 else "one class only"
            raise DataError("a classifier's data", f"has {found}, at least 2 are needed", REMEDY)
        if size < spec.classes:
            raise ConfigError(
                "model.labels",
                [f"{size} labelled examples cannot show all of {spec.classes} classes"],
                f"--set model.labels={10 * spec.classes}",
            )
        self.classes = spec.classes
        self.register_buffer("x", torch.zeros(size, *spec.shape))
        self.register_buffer("y", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("index", torch.zeros(size, dtype=torch.int64))

    @torch.no_grad()
    def choose(self, batches: Batches) -> None:
        """Keep examples of the first batches, as they come, until every class has its share.

        Raises:
            DataError: a class has too few in a whole pass over the data.
        """
        size, classes = len(self.y), self.classes
        shares = [size // classes + (k < size % classes) for k in range(classes)]
        wanted = list(shares)
        seen: set[int] = set()
        kept = 0
        for batch in batches:
            assert batch.y is not None
            assert batch.index is not None
            pairs = zip(batch.y.tolist(), batch.index.tolist(), strict=True)
            for row, (label, place) in enumerate(pairs):
                if kept == size:
                    return
                if place in seen:
                    _refuse(shares, wanted, size)
                seen.add(place)
                if label >= 0 and wanted[label]:
                    wanted[label] -= 1
                    self.x[kept], self.y[kept], self.index[kept] = batch.x[row], label, place
                    kept += 1

    def draw(self, n: int, rng: RandomStream) -> tuple[Tensor, Tensor]:
        """``(n, *shape)`` and ``(n,)``: this rank's rows of a random order, begun anew at its end.

        A global batch of as many examples as there are holds each of them once.
        """
        order = rng.shared("labelled").permutation(len(self.y))
        places = torch.arange(rng.rank * n, (rng.rank + 1) * n, device=order.device)
        rows = order[places % len(order)]
        return self.x[rows], self.y[rows]


def _refuse(shares: list[int], wanted: list[int], size: int) -> None:
    rare = max(range(len(wanted)), key=lambda k: wanted[k])
    found = shares[rare] - wanted[rare]
    raise DataError(
        f"class {rare} of the data",
        f"has {found} labelled examples, model.labels={size} asks for {shares[rare]}",
        f"--set model.labels={len(wanted) * max(1, found)}",
    )
