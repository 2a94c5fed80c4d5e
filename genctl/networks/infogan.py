"""The networks of InfoGAN (Chen et al. 2016, arXiv:1606.03657, appendix C.1, table 1).

Fully connected layers stand between the convolutions and the codes on either side: what a code
means is then a choice for the whole picture. ``width: 64, hidden: 1024`` is the paper's for MNIST.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.batch_norm import BatchNorm1d, BatchNorm2d
from genctl.networks.layers.gemm_convolution import Conv2d, ConvTranspose2d
from genctl.networks.layers.halving import halvings
from genctl.registry import register
from genctl.types import Discrimination

Width = Annotated[int, Field(ge=1)]
SLOPE = 0.1
"""Of the discriminator's leaky ReLUs."""


@register("generator", "infogan")
class InfoGANGenerator(nn.Module):
    """Two fully connected layers, then transposed convolutions, to an image in [−1, 1].

    Args:
        latent_dim: size of noise and codes.
        shape: ``(C, H, W)``; H and W multiples of 4.
        width: channels before the output; doubled at each halving of the resolution.
        hidden: units of the first layer.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, ...], *, width: Width = 64, hidden: Width = 1024
    ) -> None:
        super().__init__()
        ups = halvings(shape, "infogan")
        channels, height, breadth = shape
        wide = width * 2 ** (ups - 1)
        base = (wide, height >> ups, breadth >> ups)
        flat = base[0] * base[1] * base[2]
        layers: list[nn.Module] = [
            *_dense(latent_dim, hidden, nn.ReLU(inplace=True)),
            *_dense(hidden, flat, nn.ReLU(inplace=True)),
            nn.Unflatten(1, base),
        ]
        for _ in range(ups - 1):
            layers += [
                ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=False),
                BatchNorm2d(wide // 2),
                nn.ReLU(inplace=True),
            ]
            wide //= 2
        self.layers = nn.Sequential(*layers, ConvTranspose2d(wide, channels, 4, 2, 1), nn.Tanh())
        _initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, C, H, W)`` in [−1, 1]."""
        out: Tensor = self.layers(z)
        return out


@register("discriminator", "infogan")
class InfoGANDiscriminator(nn.Module):
    """Strided convolutions, a fully connected layer, one logit; its features are that layer's.

    Args:
        shape: ``(C, H, W)``; H and W multiples of 4.
        width: channels after the first layer; doubled at each further halving.
        hidden: units of the fully connected layer.
    """

    def __init__(self, shape: tuple[int, ...], *, width: Width = 64, hidden: Width = 1024) -> None:
        super().__init__()
        downs = halvings(shape, "infogan")
        inputs, height, breadth = shape
        layers: list[nn.Module] = []
        for level in range(downs):
            outputs = width * 2**level
            layers += [
                Conv2d(inputs, outputs, 4, 2, 1, bias=not level),
                *([BatchNorm2d(outputs)] if level else []),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
            inputs = outputs
        flat = inputs * (height >> downs) * (breadth >> downs)
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            *_dense(flat, hidden, nn.LeakyReLU(SLOPE, inplace=True)),
        )
        self.score = nn.Linear(hidden, 1)
        _initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` in [−1, 1] → logit ``(N,)`` and features ``(N, hidden)``."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last)).float()
        return Discrimination(self.score(features).flatten().float(), features)


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), as in the authors' code."""
    for layer in module.modules():
        if isinstance(layer, Conv2d | ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _dense(inputs: int, outputs: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), BatchNorm1d(outputs), activation]
