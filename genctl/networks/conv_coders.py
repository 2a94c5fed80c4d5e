"""Convolutional encoder and decoder for pictures of every size that is a multiple of 4.

The depth follows from the size: the edge is halved while it is even and longer than 4, so 8, 28 and
64 end at 4, 7 and 4 pixels. Odd edges that remain are met by one fully connected layer.
"""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from genctl.errors import ConfigError
from genctl.networks.layers.gemm_convolution import Conv2d, ConvTranspose2d
from genctl.registry import register

Size = Annotated[int, Field(ge=1)]
WIDEST = 8
"""Channels grow by 2 a halving, up to this many times the width."""


def plan(shape: tuple[int, ...], width: int) -> tuple[list[int], tuple[int, int]]:
    """Channels after each halving (the first entry is before any), and the last height and width.

    Raises:
        ConfigError: the data is not images.
    """
    if len(shape) != 3:
        problem = f"conv coders need images, found examples of shape {tuple(shape)}"
        raise ConfigError("model", [problem], "set model.encoder=mlp and model.decoder=mlp")
    _, height, breadth = shape
    channels = [width]
    while height % 2 == 0 and breadth % 2 == 0 and min(height, breadth) > 4:
        height, breadth = height // 2, breadth // 2
        channels.append(width * min(WIDEST, 2 ** len(channels)))
    return channels, (height, breadth)


def _norm(channels: int) -> nn.Module:
    # Groups, not the batch: a likelihood must not depend on an example's neighbours.
    return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


@register("encoder", "conv")
class ConvEncoder(nn.Module):
    """Strided convolutions with group norm, then one linear layer.

    Args:
        shape: one picture, ``(C, H, W)``.
        outputs: numbers given for one example.
        width: channels at full size.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, width: Size = 32) -> None:
        super().__init__()
        channels, (height, breadth) = plan(shape, width)
        layers: list[nn.Module] = [Conv2d(shape[0], width, 3, padding=1), nn.SiLU()]
        for before, after in itertools.pairwise(channels):
            layers += [Conv2d(before, after, 4, stride=2, padding=1), _norm(after), nn.SiLU()]
        layers += [nn.Flatten(), nn.Linear(channels[-1] * height * breadth, outputs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, outputs)``."""
        return self.layers(x)


@register("decoder", "conv")
class ConvDecoder(nn.Module):
    """One linear layer, then transposed convolutions with group norm; its output is unbounded.

    Args:
        latent_dim: numbers in one latent.
        shape: one picture, ``(C, H, W)``.
        width: channels at full size.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], *, width: Size = 32) -> None:
        super().__init__()
        channels, (height, breadth) = plan(shape, width)
        deepest = channels[-1]
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, deepest * height * breadth),
            nn.Unflatten(1, (deepest, height, breadth)),
            _norm(deepest),
            nn.SiLU(),
        ]
        rising = channels[::-1]
        for before, after in itertools.pairwise(rising):
            # Kernel 4 at stride 2 covers every pixel equally often: no chequerboard.
            layers += [
                ConvTranspose2d(before, after, 4, stride=2, padding=1),
                _norm(after),
                nn.SiLU(),
            ]
        self.layers = nn.Sequential(*layers, Conv2d(width, shape[0], 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, C, H, W)``."""
        return self.layers(z)
