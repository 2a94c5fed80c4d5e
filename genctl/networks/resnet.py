"""Residual networks of SN-GAN (Miyato et al. 2018, arXiv:1802.05957, table 3 and appendix B.4).

Blocks with the activation in front, two 3×3 convolutions and a shortcut; nearest pixels going up,
mean pooling going down. At 32×32 with 256 and 128 channels they are the paper's; WGAN-GP's
(arXiv:1704.00028, appendix C) have 128 and 128, no norm in the discriminator and ``pool: mean``.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.activation import Activation, Slope, activation_layer
from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.halving import halvings, halvings_to_eight
from genctl.networks.layers.minibatch_discrimination import ClosenessScore, KernelDim, Kernels
from genctl.networks.layers.normalisation import (
    Bound,
    Norm,
    norm_layers,
    normalise_weights,
    sequence,
)
from genctl.networks.layers.resampling import Nearest
from genctl.registry import register
from genctl.types import Discrimination

Width = Annotated[int, Field(ge=1)]


class _Block(nn.Module):
    """shortcut(x) + residual(x)."""

    def __init__(self, residual: list[nn.Module], shortcut: list[nn.Module]) -> None:
        super().__init__()
        self.residual, self.shortcut = nn.Sequential(*residual), nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, C', H', W')``."""
        out: Tensor = self.residual(x) + self.shortcut(x)
        return out


def _conv(inputs: int, outputs: int) -> Conv2d:
    return Conv2d(inputs, outputs, 3, 1, 1)


def _initialise(network: nn.Module) -> None:
    """Glorot's uniform weights, larger by √2 in front of activations, as in the paper's code."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in network.modules():
        if isinstance(block, _Block):
            for layer in block.residual:
                if isinstance(layer, nn.Conv2d):
                    nn.init.xavier_uniform_(layer.weight, math.sqrt(2.0))


@register("generator", "resnet")
class ResNetGenerator(nn.Module):
    """A linear layer, then residual blocks that double the resolution; images in [−1, 1].

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels at every resolution.
        norm: in front of every activation, see ``layers/normalisation.py``.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        *,
        width: Width = 256,
        norm: Literal["none", "batch", "virtual", "instance"] = "batch",
    ) -> None:
        super().__init__()
        ups = halvings(shape, "resnet")
        base = (width, shape[1] >> ups, shape[2] >> ups)
        layers: list[nn.Module] = [nn.Linear(latent_dim, math.prod(base)), nn.Unflatten(1, base)]
        for _ in range(ups):
            residual = [
                *norm_layers(norm, width),
                nn.ReLU(),  # not in place: the shortcut needs its input
                Nearest(),
                _conv(width, width),
                *norm_layers(norm, width),
                nn.ReLU(inplace=True),
                _conv(width, width),
            ]
            # A 1×1 convolution commutes with repeating pixels, and costs a quarter before it.
            layers.append(_Block(residual, [Conv2d(width, width, 1), Nearest()]))
        layers += [*norm_layers(norm, width), nn.ReLU(), _conv(width, shape[0]), nn.Tanh()]
        self.layers = sequence(layers, norm, (latent_dim,))
        _initialise(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, C, H, W)`` in [−1, 1]."""
        out: Tensor = self.layers(z)
        return out


@register("discriminator", "resnet")
class ResNetDiscriminator(nn.Module):
    """Residual blocks that halve the resolution to 8×8, two more there, and a pooled score.

    Args:
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels at every resolution.
        norm: of all weights, or in front of every activation but those of the first block, see
            ``layers/normalisation.py``.
        spectral_bound: the largest singular value of each weight under ``norm: spectral``.
        activation: everywhere.
        slope: of the leaky ReLU below zero.
        pool: over the last positions, ``sum`` as in SN-GAN or ``mean`` as in WGAN-GP.
        minibatch_kernels: B of minibatch discrimination; 0: none.
        minibatch_dim: its C.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Width = 128,
        norm: Norm = "spectral",
        spectral_bound: Bound = 1.0,
        activation: Activation = "relu",
        slope: Slope = 0.2,
        pool: Literal["sum", "mean"] = "sum",
        minibatch_kernels: Kernels = 0,
        minibatch_dim: KernelDim = 5,
    ) -> None:
        super().__init__()
        downs = halvings_to_eight(shape, "resnet")

        def act() -> nn.Module:
            return activation_layer(activation, slope, inplace=False)

        first = [_conv(shape[0], width), act(), _conv(width, width), nn.AvgPool2d(2)]
        # A 1×1 convolution commutes with mean pooling, and costs a quarter behind it.
        layers: list[nn.Module] = [
            _Block(first, [nn.AvgPool2d(2), Conv2d(shape[0], width, 1)]),
        ]
        for halving in [True] * (downs - 1) + [False, False]:
            pooling = [nn.AvgPool2d(2)] if halving else []
            residual = [
                *norm_layers(norm, width),
                act(),
                _conv(width, width),
                *norm_layers(norm, width),
                act(),
                _conv(width, width),
                *pooling,
            ]
            shortcut = [*pooling, Conv2d(width, width, 1)] if halving else []
            layers.append(_Block(residual, shortcut))
        self.layers = sequence([*layers, *norm_layers(norm, width), act()], norm, shape)
        self.pool = pool
        self.score = nn.Linear(width, 1)
        _initialise(self)
        normalise_weights(self, norm, spectral_bound)
        self.closeness = None
        if minibatch_kernels:
            self.closeness = ClosenessScore(width, minibatch_kernels, minibatch_dim)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` in [−1, 1] → score ``(N,)`` and pooled features ``(N, width)``."""
        positions = self.layers(x.contiguous(memory_format=torch.channels_last)).flatten(2)
        features = positions.sum(2) if self.pool == "sum" else positions.mean(2)
        score = self.score(features).squeeze(1).float()
        if self.closeness is not None:
            score = score + self.closeness(features)
        return Discrimination(score, features.float())
