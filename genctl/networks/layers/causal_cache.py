"""Feature maps remembered while an image is drawn pixel by pixel.

A masked convolution's output at one pixel depends on inputs that are final by then: rows above,
pixels to the left, and at the pixel itself colour channels drawn earlier. ``CausalScan`` keeps
every layer's inputs, so that one more pixel costs each layer one small matrix product instead of a
convolution over the whole image. What the rows above contribute is computed once a row for all
columns together.

A network takes part by offering, beside ``forward`` over whole images, ``step(scan)``: the same
layers, with ``scan.start(layer)`` for the mask A layers (they read the image, held by the scan),
``scan(layer, features)`` for the mask B layers, and anything that acts on each feature alone in
between. Inside a step, features are ``(N, F)``: those of the current pixel and colour channel.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from genctl.networks.layers.masked_convolution import MaskedConv2d, group_bounds


class CausalScan:
    """The position of the scan, and the cache of every masked layer met on the way.

    Args:
        image: ``(N, C, H, W)``, filled in place through ``place`` in raster order. Its dtype is the
            precision of the scan, whatever the network's.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.row = self.column = self.channel = 0
        self._layers: dict[MaskedConv2d, _LayerCache] = {}
        self._readers: list[_LayerCache] = []

    def move(self, row: int, column: int, channel: int) -> None:
        """Go to the next value in raster order; the channels of a pixel come one after another."""
        if row != self.row:
            for cache in self._layers.values():
                cache.next_row()
        self.row, self.column, self.channel = row, column, channel

    def start(self, layer: MaskedConv2d) -> Tensor:
        """The output of a mask A layer for the current pixel and channel, ``(N, F)``."""
        cache = self._layers.get(layer)
        if cache is None:
            cache = self._layers[layer] = _LayerCache(layer, self.image)
            self._readers.append(cache)
        return cache.output(self.column, self.channel)

    def __call__(self, layer: MaskedConv2d, x: Tensor) -> Tensor:
        """The output of a mask B layer for the current pixel and channel, ``(N, F)``."""
        cache = self._layers.get(layer)
        if cache is None:
            cache = self._layers[layer] = _LayerCache(layer, self.image)
        if cache.remembers_nothing:
            return torch.addmm(cache.bias, x, cache.own_weights[0])
        cache.write(x, self.column, self.channel)
        return cache.output(self.column, self.channel)

    def place(self, value: Tensor) -> None:
        """Fix the current pixel's current channel, ``(N,)``."""
        self.image[:, self.channel, self.row, self.column] = value
        for cache in self._readers:
            cache.write(value[:, None], self.column, self.channel)


class _Row:
    """One image row of a layer's inputs, padded at both ends, and views into it made once.

    Pixels lie one after another, ``(N, padded width x inputs)``, so that a window of neighbouring
    pixels is a slice of columns, which a matrix product reads without a copy.
    """

    def __init__(self, image: Tensor, layer: MaskedConv2d) -> None:
        n, width, inputs = image.shape[0], image.shape[3], layer.inputs
        left = layer.kernel // 2
        self.values = image.new_zeros(n, (width + 2 * left) * inputs)
        bounds = list(pairwise(group_bounds(inputs, layer.groups)))
        starts = [column * inputs for column in range(width)]
        self.seen = [self.values[:, a : a + (left + 1) * inputs] for a in starts]
        own = [a + left * inputs for a in starts]
        self.place = [[self.values[:, a + b : a + c] for b, c in bounds] for a in own]
        self.windows = self.values.unfold(1, layer.kernel * inputs, inputs)


class _LayerCache:
    """One layer's weights as matrices, its last rows of inputs, and what they add to this row."""

    def __init__(self, layer: MaskedConv2d, image: Tensor) -> None:
        n, width, outputs = image.shape[0], image.shape[3], layer.outputs
        left = layer.kernel // 2
        self.remembers_nothing = layer.kernel == 1 and layer.groups == 1
        self.bias = layer.bias.detach().to(image.dtype)
        bounds = list(pairwise(group_bounds(outputs, layer.groups)))
        # (kernel, kernel, inputs, outputs): a matrix has rows (tap from the left, input feature).
        taps = layer.masked_weight().detach().to(image.dtype).permute(2, 3, 1, 0)
        own = taps[left, : left + 1].reshape(-1, outputs)
        self.own_weights = [own[:, a:b].contiguous() for a, b in bounds]
        self.above_weights = [row.reshape(-1, outputs) for row in taps[:left]]
        self.rows = [_Row(image, layer) for _ in range(left + 1)]  # the last one is the current
        self.from_above = self.bias.repeat(n * width, 1)
        flat = self.from_above.view(n, width * outputs)
        starts = [column * outputs for column in range(width)]
        self.ready = [[flat[:, s + a : s + b] for a, b in bounds] for s in starts]

    def next_row(self) -> None:
        if not self.above_weights:
            return
        self.rows = [*self.rows[1:], self.rows[0]]
        self.rows[-1].values.zero_()
        self.from_above.copy_(self.bias.expand_as(self.from_above))
        for row, weight in zip(self.rows, self.above_weights, strict=False):
            self.from_above.addmm_(row.windows.reshape(-1, weight.shape[0]), weight)

    def write(self, x: Tensor, column: int, channel: int) -> None:
        self.rows[-1].place[column][channel].copy_(x)

    def output(self, column: int, channel: int) -> Tensor:
        seen = self.rows[-1].seen[column]
        return torch.addmm(self.ready[column][channel], seen, self.own_weights[channel])
