"""Affine coupling layers, the masks that split their input, and the networks inside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genctl.networks.layers.bijection import Bijection

LARGEST_LOG_SCALE = 4.0
"""No coupling stretches by more than e⁴: unbounded scales are how flows end in NaN."""


def checkerboard_mask(shape: tuple[int, ...], parity: int) -> Tensor:
    """``(1, H, W)``: 1 on every other pixel, which are kept (arXiv:1605.08803, figure 3)."""
    _, height, width = shape
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    return ((rows + columns) % 2 == parity).float()[None]


def channel_mask(shape: tuple[int, ...], parity: int) -> Tensor:
    """``(C, 1, 1)``: 1 on the first half of the channels, or on the second (figure 3)."""
    first = torch.arange(shape[0]) < shape[0] // 2
    return (first if parity == 0 else ~first).float()[:, None, None]


def alternating_mask(shape: tuple[int, ...], parity: int) -> Tensor:
    """``(D,)``: 1 on every other variable of a point."""
    return (torch.arange(shape[0]) % 2 == parity).float()


class AffineCoupling(Bijection):
    """Keeps the masked part and scales and shifts the rest by functions of it (eq. 7 to 9).

    ``y = b x + (1 − b)(x exp(s(b x)) + t(b x))``, with ``s`` a tanh times a learned, bounded scale
    for each channel.

    Args:
        mask: 1 where the input is kept; broadcasts against one example.
        channels: channels of an image, or variables of a point.
        network: gives twice the channels it gets: raw scale, then shift.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, channels: int, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.network = network
        # tanh of this times the bound is the largest log-scale: 1 at the start.
        start = torch.full((channels, *[1] * (mask.dim() - 1)), 1 / LARGEST_LOG_SCALE).atanh()
        self.reach = nn.Parameter(start)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, …)`` → output and log|det| ``(N,)``."""
        log_scale, shift = self._scale_and_shift(x)
        return x * log_scale.exp() + shift, log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """The input that gives ``y``; as cheap as forward."""
        log_scale, shift = self._scale_and_shift(y)
        return (y - shift) * (-log_scale).exp()

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift, zero where the input is kept."""
        raw: Tensor = self.network(x * self.mask)
        # Under autocast the network computes in bf16; sums of log-scales must not.
        raw_scale, shift = raw.to(x.dtype).chunk(2, dim=1)
        log_scale = LARGEST_LOG_SCALE * self.reach.tanh() * raw_scale.tanh()
        moved = 1 - self.mask
        return log_scale * moved, shift * moved
