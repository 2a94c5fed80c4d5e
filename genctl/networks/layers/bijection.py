"""Invertible layers that know the logarithm of their Jacobian's determinant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn


class Bijection(nn.Module):
    """An invertible map of each example, for a change of variables."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, …)`` → output of as many numbers, and log|det| of the Jacobian ``(N,)``."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def inverse(self, y: Tensor) -> Tensor:
        """The input that gives ``y``."""
        raise TypeError(f"{type(self).__name__} does not define inverse")


class Chain(Bijection):
    """Bijections one after another; their log-determinants add up."""

    def __init__(self, layers: Iterable[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the last layer, and the sum of log|det| ``(N,)``."""
        log_det = x.new_zeros(x.shape[0])
        for layer in self.layers:
            x, change = layer(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, y: Tensor) -> Tensor:
        """The input that gives ``y``."""
        for layer in reversed(self.layers):
            y = cast("Bijection", layer).inverse(y)
        return y
