"""Labels beside latents and examples (Mirza & Osindero 2014, arXiv:1411.1784)."""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.types import DataSpec


class Labels:
    """One-hot labels, given to a network as further inputs.

    Attributes:
        given: how many inputs a latent gets.
        seen: the shape of an example with its label: a plane, or a coordinate, for each class.

    Raises:
        ConfigError: the data has no labels.
    """

    def __init__(self, spec: DataSpec) -> None:
        if spec.classes < 2:
            raise ConfigError(
                "model.conditional",
                ["the data has no labels to give"],
                "data in sub-folders named by label, or --set model.conditional=false",
            )
        self.given = spec.classes
        self.seen = (spec.shape[0] + spec.classes, *spec.shape[1:])

    def draw(self, n: int, rng: RandomStream) -> Tensor:
        """``(n,)`` labels, each equally likely."""
        return rng.integers(n, high=self.given)

    def turn(self, n: int, rng: RandomStream) -> Tensor:
        """``(n,)`` labels, one class after the other from the stream's first row on."""
        first = rng.first_row + rng.rank * n
        return (first + torch.arange(n, device=rng.device)) % self.given

    def one_hot(self, y: Tensor) -> Tensor:
        """``(N,)`` → ``(N, given)``; zeros for −1, an example without a label."""
        return (y[:, None] == torch.arange(self.given, device=y.device)).float()

    def beside_latent(self, z: Tensor, y: Tensor | None) -> Tensor:
        """``(N, latent_dim)`` and ``(N,)`` → ``(N, latent_dim + given)``."""
        return torch.cat([z, self._known(y, z)], 1)

    def beside_example(self, x: Tensor, y: Tensor | None) -> Tensor:
        """``(N, *shape)`` and ``(N,)`` → ``(N, *seen)``."""
        planes = self._known(y, x).view(len(x), self.given, *[1] * (x.dim() - 2))
        return torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)

    def upright(self, z: Tensor) -> Tensor:
        """Latents from between two, whose labels sum to 1 again: a walk on the sphere leaves it."""
        latent, labels = z[:, : -self.given], z[:, -self.given :]
        return torch.cat([latent, labels / labels.sum(1, keepdim=True)], 1)

    def _known(self, y: Tensor | None, like: Tensor) -> Tensor:
        if y is None:
            return like.new_zeros(len(like), self.given)
        return self.one_hot(y).to(like)
