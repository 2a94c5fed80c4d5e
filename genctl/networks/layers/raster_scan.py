"""Drawing an image one channel of one pixel at a time, from a network of masked convolutions.

Both scans consume the same noise, one uniform number for each value, and draw by inverting the
cumulative distribution, so they give the same picture. The cached scan is the sampler; the plain
scan runs the whole network for every value and is what the cached one is tested and timed against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from genctl.data.ranges import from_levels
from genctl.networks.layers.causal_cache import CausalScan


class CausalNetwork(Protocol):
    """What the scans ask of a network."""

    def __call__(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` in [−1, 1] → logits ``(N, C, levels, H, W)``."""

    def step(self, scan: CausalScan) -> Tensor:
        """Logits ``(N, levels)`` of the scan's current pixel and channel."""


def inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """Categorical draws from uniform noise: ``(N, K)`` logits and ``(N,)`` in [0, 1) → int64."""
    cumulative = _running_sums(logits.softmax(dim=1))
    # Rounding may leave the last sum below u.
    return (cumulative <= u[:, None]).sum(dim=1).clamp_max_(logits.shape[1] - 1)


def _running_sums(p: Tensor) -> Tensor:
    """Sums of ``(N, K)`` from the first to each; CUDA's own are not deterministic."""
    if p.is_cuda and torch.are_deterministic_algorithms_enabled():
        return p @ p.new_ones(p.shape[1], p.shape[1]).triu()
    return p.cumsum(dim=1)


@torch.no_grad()
def cached_scan(network: CausalNetwork, x: Tensor, given: Tensor, noise: Tensor) -> Tensor:
    """Draw the values that are not given, each layer computing one pixel at a time.

    Args:
        network: offers ``step``.
        x: ``(N, C, H, W)`` in [−1, 1]; read only where given.
        given: ``(N, C, H, W)`` bool, true where x stays.
        noise: ``(N, C, H, W)`` uniform on [0, 1).

    Returns:
        A new tensor like x, in the precision of the noise.
    """
    image = torch.zeros_like(noise)
    scan = CausalScan(image)
    some_given = bool(given.any())
    values: Tensor | None = None
    for row, column, channel in _positions(image):
        scan.move(row, column, channel)
        logits = network.step(scan)
        if values is None:
            values = _values(logits)
        value = values[inverse_cdf(logits, noise[:, channel, row, column])]
        if some_given:
            at = (slice(None), channel, row, column)
            value = torch.where(given[at], x[at].to(image.dtype), value)
        scan.place(value)
    return image


@torch.no_grad()
def plain_scan(network: CausalNetwork, x: Tensor, given: Tensor, noise: Tensor) -> Tensor:
    """The same by one full forward for every value: the oracle, slow on purpose."""
    image = torch.where(given, x.to(noise.dtype), torch.zeros_like(noise))
    for row, column, channel in _positions(image):
        logits = network(image)[:, channel, :, row, column]
        value = _values(logits)[inverse_cdf(logits, noise[:, channel, row, column])]
        at = (slice(None), channel, row, column)
        image[at] = torch.where(given[at], image[at], value)
    return image


def _values(logits: Tensor) -> Tensor:
    """The model-range value of each level, ``(K,)``."""
    k = torch.arange(logits.shape[1], device=logits.device)
    return from_levels(k, logits.shape[1]).to(logits.dtype)


def _positions(image: Tensor) -> Iterator[tuple[int, int, int]]:
    _, channels, height, width = image.shape
    for row in range(height):
        for column in range(width):
            for channel in range(channels):
                yield row, column, channel
