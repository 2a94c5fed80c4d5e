"""Ways to halve and to double the resolution of a picture, as lists of layers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from genctl.networks.layers.gemm_convolution import Conv2d, ConvTranspose2d

Kernel = Literal[4, 5]
Down = Literal["strided", "average-pool"]
Up = Literal["transposed", "pixel-shuffle", "nearest"]


class Nearest(nn.Upsample):
    """Doubles height and width by repeating pixels, in the input's own number format.

    Autocast on CUDA would make float32 of it, which copies need least of all.
    """

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="nearest")

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, C, 2H, 2W)``."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)


def halved(
    kind: Down, inputs: int, outputs: int, kernel: Kernel, *, bias: bool = False
) -> list[nn.Module]:
    """Halves height and width.

    Args:
        kind: ``strided`` convolution, or one at full resolution and then ``average-pool``.
        inputs: channels.
        outputs: channels.
        kernel: edge of the strided kernel; without a stride it is odd, 3 for 4.
        bias: whether the convolution has one.
    """
    if kind == "strided":
        return [Conv2d(inputs, outputs, kernel, 2, 1 if kernel == 4 else 2, bias=bias)]
    return [_same(inputs, outputs, kernel, bias), nn.AvgPool2d(2)]


def doubled(
    kind: Up, inputs: int, outputs: int, kernel: Kernel, *, bias: bool = False
) -> list[nn.Module]:
    """Doubles height and width.

    Args:
        kind: ``transposed`` convolution; ``pixel-shuffle`` of four times the channels (Shi et al.
            2016, arXiv:1609.05158); or repeating the ``nearest`` pixel, then a convolution.
        inputs: channels.
        outputs: channels.
        kernel: edge of the transposed kernel; without a stride it is odd, 3 for 4.
        bias: whether the convolution has one.
    """
    if kind == "transposed":
        padding, extra = (1, 0) if kernel == 4 else (2, 1)
        layer = ConvTranspose2d(
            inputs, outputs, kernel, 2, padding, output_padding=extra, bias=bias
        )
        return [layer]
    if kind == "pixel-shuffle":
        return [_same(inputs, 4 * outputs, kernel, bias), nn.PixelShuffle(2)]
    return [Nearest(), _same(inputs, outputs, kernel, bias)]


def _same(inputs: int, outputs: int, kernel: Kernel, bias: bool) -> Conv2d:
    """Keeps height and width."""
    odd = 3 if kernel == 4 else 5
    return Conv2d(inputs, outputs, odd, 1, odd // 2, bias=bias)
