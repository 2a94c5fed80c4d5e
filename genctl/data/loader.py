"""Endless batches in a random order that can be entered anywhere, and finite ones in order.

The order is one permutation by (seed, epoch) after the other; batch p takes the places from p·B on.
Flips, crops and binarisation of batch p are drawn by (seed, p, row in the global batch). So the
position is the whole state, and the ranks together see exactly what one process would.

Images are bytes until they are on the device. A set that takes a small share of the device's free
memory moves there whole, once, and batches are gathered there; the values are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from genctl.data.dataset import Binarise, Dataset, draw_binary, drawn_once
from genctl.data.decode import Crop
from genctl.data.ranges import from_bytes
from genctl.errors import UsageError
from genctl.randomness import RandomStream
from genctl.types import Batch

RESIDENT_SHARE = 0.25
"""Of the device's free memory, the most that examples may take to stay there."""


class Loader(Iterator[Batch]):
    """Endless training batches on the device.

    Args:
        dataset: the examples.
        batch_size: examples of one batch over all ranks.
        seed: decides the order and every augmentation.
        device: where batches go; images travel as uint8.
        flip: mirror each image with probability ½.
        crop: ``random`` draws windows where the data set has a margin; None as it was opened.
        binarise: None as the data set was opened.
        rank: this process.
        world: number of processes, a divisor of ``batch_size``.
        resident: keep the examples on the device; None where they fit.

    Attributes:
        position: global batches drawn so far; set it to go on from there.
        notes: what a user should know, such as a set smaller than the batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        flip: bool = False,
        crop: Crop | None = None,
        binarise: Binarise | None = None,
        rank: int = 0,
        world: int = 1,
        resident: bool | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            reason = f"{batch_size} examples cannot be shared equally by {world} processes"
            raise UsageError(f"train.batch_size={batch_size}", reason, "choose a multiple")
        self.dataset = prepared(dataset, binarise)
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.device = torch.device(device)
        self.flip = flip and dataset.spec.kind == "image"
        self.crop = dataset.crop if crop is None else crop
        self.position = 0
        self.notes: list[str] = []
        if dataset.toy is None and len(dataset) < batch_size:
            self.notes.append(
                f"{len(dataset):,} examples are fewer than the batch of {batch_size:,}: "
                "they are repeated within it"
            )
        self._order: tuple[int, Tensor] | None = None
        self._resident = resident
        self._examples: Tensor | None = None

    @property
    def images(self) -> int:
        """Examples consumed over all ranks."""
        return self.position * self.batch_size

    @property
    def epoch(self) -> int:
        """Complete passes over the data; 0 for ever where draws are fresh."""
        return 0 if self.dataset.toy is not None else self.images // len(self.dataset)

    def whole(self) -> Loader:
        """A loader of the same order, at its beginning, that gives one process whole batches."""
        if self._examples is None and self.dataset.toy is None:
            self._examples = self._settled(self.dataset.examples)  # once, for both
        twin = copy.copy(self)
        twin.position, twin.rank, twin.world = 0, 0, 1
        return twin

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> Batch:
        """The next batch of this rank."""
        n = self.batch_size // self.world
        first = self.images + self.rank * n
        dataset = self.dataset
        if dataset.toy is not None:
            x = dataset.toy.draw(n, self._stream("toy"))
            index = torch.arange(first, first + n)
        else:
            index = self._places(first, n)
            x = self._gather(index)
        if dataset.spec.kind == "image":
            if dataset.binarise != "dynamic":  # which is a comparison with noise of the CPU
                x = self._move(x)
            x = self._windows(x)
            if dataset.binarise != "none":
                x = _binary(x, dataset.binarise, self._stream("binarise"))
            x = self._move(x)
            if self.flip:
                # Choosing rows of (x, mirrored x) is much faster than torch.where on bytes.
                second = (self._stream("flip").uniform(n) < 0.5).long() * n
                x = torch.cat([x, x.flip(3)]).index_select(0, self._move(torch.arange(n) + second))
            x = from_bytes(x)
        labels = dataset.labels
        y = None if labels is None else self._move(labels.index_select(0, index))
        self.position += 1
        return Batch(self._move(x), y=y, index=self._move(index))

    def _stream(self, purpose: str) -> RandomStream:
        """Noise of this batch, addressed by the rows of the global batch."""
        return RandomStream(self.seed, "loader", purpose, self.position, rank=self.rank)

    def _places(self, first: int, n: int) -> Tensor:
        """Rows of the data set at ``n`` places of the endless order."""
        total = len(self.dataset)
        epoch, start = divmod(first, total)
        places = torch.empty(n, dtype=torch.int64)  # an absurd batch fails here, at once
        done = 0
        while done < n:
            part = self._permutation(epoch)[start : start + n - done]
            places[done : done + len(part)] = part
            done += len(part)
            epoch, start = epoch + 1, 0
        return places

    def _permutation(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            stream = RandomStream(self.seed, "loader", "order", epoch)
            self._order = epoch, stream.permutation(len(self.dataset))
        return self._order[1]

    def _gather(self, index: Tensor) -> Tensor:
        """Rows of this batch: on the device if the examples are, else as soon as they can be."""
        if self._examples is None:
            self._examples = self._settled(self.dataset.examples)
        examples = self._examples
        if examples.device.type != "cpu":
            return examples.index_select(0, self._move(index))
        if self.device.type != "cuda":
            return examples.index_select(0, index)
        # In page-locked memory, from where the device copies by itself.
        shape = (len(index), *examples.shape[1:])
        rows = torch.empty(shape, dtype=examples.dtype, pin_memory=True)
        return torch.index_select(examples, 0, index, out=rows)

    def _settled(self, examples: Tensor) -> Tensor:
        """The examples where they stay: on the device, or in memory and on disk."""
        resident = self._resident
        if self.dataset.binarise == "dynamic":
            resident = False  # a comparison with noise of the CPU, to the last bit
        if resident is None and self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            resident = examples.nbytes <= RESIDENT_SHARE * free
        return examples.to(self.device) if resident else examples

    def _windows(self, rows: Tensor) -> Tensor:
        """One window of the model's size from each row: at random, or central."""
        down, right = self.dataset.margin
        if not (down or right):
            return rows
        n, channels = rows.shape[:2]
        height, width = self.dataset.spec.shape[1:]
        if self.crop != "random":
            return rows[:, :, down // 2 : down // 2 + height, right // 2 : right // 2 + width]
        stream = self._stream("crop")
        top, left = stream.integers(n, high=down + 1), stream.integers(n, high=right + 1)
        y = (top[:, None] + torch.arange(height))[:, None, :, None]
        x = (left[:, None] + torch.arange(width))[:, None, None, :]
        place = [torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None], y, x]
        if rows.device.type != "cpu":
            place = [self._move(part) for part in place]
        return rows[tuple(place)]

    def _move(self, value: Tensor) -> Tensor:
        if self.device.type != "cuda" or value.device.type == "cuda":
            return value.to(self.device)
        return value.contiguous().pin_memory().to(self.device, non_blocking=True)


def evaluation_batches(
    dataset: Dataset,
    batch_size: int,
    device: torch.device | str = "cpu",
    binarise: Binarise | None = None,
) -> Iterator[Batch]:
    """Every example once, in order, without augmentation; binarised once, with seed 0.

    The binary value of a pixel depends on the split and the example's row, not on ``batch_size``.
    """
    dataset = prepared(dataset, binarise)
    for start in range(0, len(dataset), batch_size):
        rows = dataset.images(slice(start, start + batch_size))
        index = torch.arange(start, start + len(rows))
        if dataset.spec.kind == "image":
            stream = RandomStream(0, "binarise", dataset.split, first_row=start)
            x = from_bytes(_binary(rows, dataset.binarise, stream).to(device))
        else:
            x = rows.to(device)
        y = None if dataset.labels is None else dataset.labels[index].to(device)
        yield Batch(x, y=y, index=index.to(device))


def prepared(dataset: Dataset, binarise: Binarise | None) -> Dataset:
    """The data set with another binarisation than it was opened with; None leaves it."""
    if binarise is None or binarise == dataset.binarise:
        return dataset
    if binarise not in get_args(Binarise):
        expected = ", ".join(get_args(Binarise))
        raise UsageError(f"data.binarise={binarise}", "unknown value", f"expected {expected}")
    if dataset.binarise == "fixed" or dataset.spec.kind == "points":
        reason = f"{dataset.spec.kind} opened as {dataset.binarise!r} cannot become {binarise!r}"
        raise UsageError("data.binarise", reason, "open the data with the binarisation it needs")
    if binarise == "fixed":
        return drawn_once(dataset)
    return replace(dataset, binarise=binarise)


def _binary(rows: Tensor, how: Binarise, rng: RandomStream) -> Tensor:
    """uint8 images, black and white if asked; ``fixed`` ones are so already."""
    if how == "threshold":
        return (rows >= 128).to(torch.uint8).mul_(255)
    return draw_binary(rows, rng) if how == "dynamic" else rows
