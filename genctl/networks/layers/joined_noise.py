"""Several batches in one pass through noise layers, each with the noise it would have alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from genctl.networks.layers.noise import _Drawing
from genctl.randomness import RandomStream


class _InParts(RandomStream):
    """Draws for one part after the other: row i of a part is row i of the whole batch's part."""

    def __init__(self, stream: RandomStream, parts: int) -> None:
        self.stream, self.parts = stream, parts

    def normal(self, n: int, *shape: int) -> Tensor:
        """``(n, *shape)``, n a multiple of the number of parts."""
        rows = n // self.parts
        return torch.cat([self.stream.normal(rows, *shape) for _ in range(self.parts)])

    def uniform(self, n: int, *shape: int) -> Tensor:
        """``(n, *shape)``, n a multiple of the number of parts."""
        rows = n // self.parts
        return torch.cat([self.stream.uniform(rows, *shape) for _ in range(self.parts)])


@contextmanager
def joined(layers: Sequence[_Drawing], parts: int) -> Iterator[None]:
    """Inside, the layers see batches that were joined of so many of one size.

    A draw belongs to a row of the batch over all ranks, and joined batches have other rows.
    """
    before = [layer.stream for layer in layers]
    for layer, stream in zip(layers, before, strict=True):
        layer.stream = None if stream is None else _InParts(stream, parts)
    try:
        yield
    finally:
        for layer, stream in zip(layers, before, strict=True):
            layer.stream = stream
