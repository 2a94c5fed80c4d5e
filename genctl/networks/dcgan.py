"""DCGAN (Radford et al. 2016, arXiv:1511.06434): strided convolutions with batch norm.

``width: 64, kernel: 4`` is the net everyone knows (3×64×64: 3,576,704 and 2,765,568 parameters);
``width: 128, kernel: 5`` with a uniform prior is the paper's.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.batch_norm import BatchNorm2d
from genctl.networks.layers.gemm_convolution import Conv2d, ConvTranspose2d
from genctl.networks.layers.halving import halvings
from genctl.registry import register
from genctl.types import Discrimination

Width = Annotated[int, Field(ge=1)]
Kernel = Literal[4, 5]


def _up(inputs: int, outputs: int, kernel: int, bias: bool = False) -> ConvTranspose2d:
    """Doubles height and width."""
    padding, extra = (1, 0) if kernel == 4 else (2, 1)
    return ConvTranspose2d(inputs, outputs, kernel, 2, padding, output_padding=extra, bias=bias)


def _down(inputs: int, outputs: int, kernel: int) -> Conv2d:
    """Halves height and width."""
    return Conv2d(inputs, outputs, kernel, 2, 1 if kernel == 4 else 2, bias=False)


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), batch-norm scales from N(1, 0.02) (section 4)."""
    for layer in module.modules():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


@register("generator", "dcgan")
class DCGANGenerator(nn.Module):
    """Transposed convolutions from a vector to an image in [−1, 1].

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels before the output; doubled at each halving of the resolution.
        kernel: 4, or the paper's 5.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, ...], *, width: Width = 64, kernel: Kernel = 4
    ) -> None:
        super().__init__()
        ups = halvings(shape, "dcgan")
        channels, height, breadth = shape
        wide = width * 2 ** (ups - 1)
        base = (height >> ups, breadth >> ups)
        layers: list[nn.Module] = [
            ConvTranspose2d(latent_dim, wide, base, bias=False),
            BatchNorm2d(wide),
            nn.ReLU(inplace=True),
        ]
        for _ in range(ups - 1):
            layers += [
                _up(wide, wide // 2, kernel),
                BatchNorm2d(wide // 2),
                nn.ReLU(inplace=True),
            ]
            wide //= 2
        layers += [_up(wide, channels, kernel), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        _initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, C, H, W)`` in [−1, 1]."""
        out: Tensor = self.layers(z[:, :, None, None])
        return out


@register("discriminator", "dcgan")
class DCGANDiscriminator(nn.Module):
    """Strided convolutions from an image to one logit.

    Args:
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels after the first layer; doubled at each further halving.
        kernel: 4, or the paper's 5.
    """

    def __init__(self, shape: tuple[int, ...], *, width: Width = 64, kernel: Kernel = 4) -> None:
        super().__init__()
        downs = halvings(shape, "dcgan")
        channels, height, breadth = shape
        layers: list[nn.Module] = [_down(channels, width, kernel), nn.LeakyReLU(0.2, inplace=True)]
        wide = width
        for _ in range(downs - 1):
            layers += [
                _down(wide, wide * 2, kernel),
                BatchNorm2d(wide * 2),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            wide *= 2
        self.layers = nn.Sequential(*layers)
        self.score = Conv2d(wide, 1, (height >> downs, breadth >> downs), bias=False)
        _initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` in [−1, 1] → logit ``(N,)`` and features ``(N, F)``."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last))
        return Discrimination(self.score(features).flatten().float(), features.flatten(1).float())
