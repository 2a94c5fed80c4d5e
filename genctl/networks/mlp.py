"""Multi-layer perceptrons for toys and small images."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from genctl.registry import register
from genctl.types import Discrimination

Size = Annotated[int, Field(ge=1)]


@register("generator", "mlp")
class MLPGenerator(nn.Module):
    """Fully connected ReLU layers; tanh at the end for images, nothing for points.

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)`` or ``(D,)``.
        width: units of a hidden layer.
        depth: hidden layers.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, ...], *, width: Size = 256, depth: Size = 2
    ) -> None:
        super().__init__()
        sizes = [latent_dim, *[width] * depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        layers += [nn.Linear(width, math.prod(shape)), nn.Unflatten(1, shape)]
        if len(shape) == 3:
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, *shape)``."""
        out: Tensor = self.layers(z)
        return out


@register("discriminator", "mlp")
class MLPDiscriminator(nn.Module):
    """Fully connected LeakyReLU layers to one logit.

    Args:
        shape: ``(C, H, W)`` or ``(D,)``.
        width: units of a hidden layer.
        depth: hidden layers.
    """

    def __init__(self, shape: tuple[int, ...], *, width: Size = 256, depth: Size = 2) -> None:
        super().__init__()
        sizes = [math.prod(shape), *[width] * depth]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, *shape)`` → logit ``(N,)`` and the last hidden layer ``(N, width)``."""
        features = self.layers(x)
        return Discrimination(self.score(features).squeeze(1).float(), features.float())

    def chain(self) -> nn.Sequential:
        """The layers from an example to its score."""
        return nn.Sequential(self.layers, self.score)
