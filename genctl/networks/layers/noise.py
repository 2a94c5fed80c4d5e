"""Noise inside a network (Salimans et al. 2016, arXiv:1606.03498, section 5): Gaussian, dropout.

In training these layers draw from the step's own stream, which the engine hands to them. So a run
that is resumed draws the same, and row i of the whole batch gets the same noise on one process or
on several. In evaluation they do nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.randomness import RandomStream

Std = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Drawing(nn.Module):
    """A layer that draws; from torch's global generators while nobody has handed it a stream."""

    stream: RandomStream | None = None


class GaussianNoise(_Drawing):
    """x + std · ε with ε ~ N(0, 1) for every element.

    Args:
        std: standard deviation, in the units of the input.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """``(N, …)`` → ``(N, …)``."""
        if not self.training:
            return x
        noise = torch.randn_like(x) if self.stream is None else self.stream.normal(*x.shape)
        return x + self.std * noise.to(x)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"std={self.std}"


class Dropout(_Drawing):
    """Elements set to zero at random, the others scaled so that the mean is kept.

    Args:
        share: probability of being dropped.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """``(N, …)`` → ``(N, …)``."""
        if not self.training:
            return x
        draw = torch.rand_like(x) if self.stream is None else self.stream.uniform(*x.shape)
        return x * (draw >= self.share).to(x) / (1.0 - self.share)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"share={self.share}"


def noise_layers(std: float, dropout: float = 0.0) -> list[nn.Module]:
    """Dropout, then Gaussian noise; no layer for what is zero."""
    layers: list[nn.Module] = [Dropout(dropout)] if dropout else []
    return [*layers, GaussianNoise(std)] if std else layers


def drawing_layers(network: nn.Module) -> list[_Drawing]:
    """The layers of a network that draw.

    A draw belongs to a row of the batch. So what the network sees must be ordered as the whole
    batch is: real and generated examples apart, never joined in one batch.
    """
    return [layer for layer in network.modules() if isinstance(layer, _Drawing)]


def use_stream(layers: Iterable[_Drawing], stream: RandomStream) -> None:
    """Let the layers draw from a stream, one after the other as they are called."""
    for layer in layers:
        layer.stream = stream
