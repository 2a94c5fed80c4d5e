"""DCGAN (Radford et al. 2016, arXiv:1511.06434): strided convolutions with batch norm.

``width: 64, kernel: 4`` is the net everyone knows (3×64×64: 3,576,704 and 2,765,568 parameters);
``width: 128, kernel: 5`` with a uniform prior is the paper's. Norm, activation and resampling can
be exchanged.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.activation import Activation, Slope, activation_layer
from genctl.networks.layers.batch_norm import BatchNorm2d
from genctl.networks.layers.gemm_convolution import Conv2d, ConvTranspose2d
from genctl.networks.layers.halving import halvings
from genctl.networks.layers.minibatch_discrimination import ClosenessScore, KernelDim, Kernels
from genctl.networks.layers.noise import Share, Std, noise_layers
from genctl.networks.layers.normalisation import (
    Bound,
    Norm,
    needs_bias,
    norm_layers,
    normalise_weights,
    refuse_noise_beside_reference,
    sequence,
)
from genctl.networks.layers.resampling import Down, Kernel, Up, doubled, halved
from genctl.networks.layers.virtual_batch_norm import VirtualBatchNorm
from genctl.registry import register
from genctl.types import Discrimination

Width = Annotated[int, Field(ge=1)]


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), batch-norm scales from N(1, 0.02) (section 4)."""
    for layer in module.modules():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, BatchNorm2d | VirtualBatchNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


@register("generator", "dcgan")
class DCGANGenerator(nn.Module):
    """Transposed convolutions from a vector to an image in [−1, 1].

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels before the output; doubled at each halving of the resolution.
        kernel: 4, or the paper's 5; one of 4 is 3 where the convolution has no stride.
        norm: of all layers but the last, see ``layers/normalisation.py``.
        activation: of all layers but the last.
        slope: of the leaky ReLU below zero.
        up: how the resolution is doubled, see ``layers/resampling.py``.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        *,
        width: Width = 64,
        kernel: Kernel = 4,
        norm: Literal["none", "batch", "virtual", "instance"] = "batch",
        activation: Activation = "relu",
        slope: Slope = 0.2,
        up: Up = "transposed",
    ) -> None:
        super().__init__()
        ups = halvings(shape, "dcgan")
        channels, height, breadth = shape
        wide = width * 2 ** (ups - 1)
        base = (height >> ups, breadth >> ups)
        bias = needs_bias(norm)
        layers: list[nn.Module] = [
            ConvTranspose2d(latent_dim, wide, base, bias=bias),
            *norm_layers(norm, wide),
            activation_layer(activation, slope),
        ]
        for _ in range(ups - 1):
            layers += [
                *doubled(up, wide, wide // 2, kernel, bias=bias),
                *norm_layers(norm, wide // 2),
                activation_layer(activation, slope),
            ]
            wide //= 2
        layers += [*doubled(up, wide, channels, kernel, bias=bias), nn.Tanh()]
        self.layers = sequence(layers, norm, (latent_dim, 1, 1))
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
        kernel: 4, or the paper's 5; one of 4 is 3 where the convolution has no stride.
        norm: of all layers but the first and the last, or of all weights, see
            ``layers/normalisation.py``.
        spectral_bound: the largest singular value of each weight under ``norm: spectral``.
        activation: of all layers but the last.
        slope: of the leaky ReLU below zero.
        down: how the resolution is halved, see ``layers/resampling.py``.
        noise: standard deviation of Gaussian noise on the input and on every hidden layer.
        dropout: share of the elements of every hidden layer that is dropped.
        minibatch_kernels: B of minibatch discrimination; 0: none.
        minibatch_dim: its C.

    Raises:
        ConfigError: virtual batch norm with noise or dropout.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Width = 64,
        kernel: Kernel = 4,
        norm: Norm = "batch",
        spectral_bound: Bound = 1.0,
        activation: Activation = "leaky-relu",
        slope: Slope = 0.2,
        down: Down = "strided",
        noise: Std = 0.0,
        dropout: Share = 0.0,
        minibatch_kernels: Kernels = 0,
        minibatch_dim: KernelDim = 5,
    ) -> None:
        refuse_noise_beside_reference("model.discriminator.norm", norm, noise, dropout)
        super().__init__()
        downs = halvings(shape, "dcgan")
        channels, height, breadth = shape
        bias = needs_bias(norm)
        layers: list[nn.Module] = noise_layers(noise)
        inputs, outputs = channels, width
        for level in range(downs):
            layers += [
                *halved(down, inputs, outputs, kernel, bias=bias),
                *(norm_layers(norm, outputs) if level else []),
                activation_layer(activation, slope),
                *noise_layers(noise, dropout),
            ]
            inputs, outputs = outputs, 2 * outputs
        self.layers = sequence(layers, norm, shape)
        last = (height >> downs, breadth >> downs)
        self.score = Conv2d(inputs, 1, last, bias=bias)
        _initialise(self)
        normalise_weights(self, norm, spectral_bound)
        self.closeness = None
        if minibatch_kernels:
            flat = inputs * last[0] * last[1]
            self.closeness = ClosenessScore(flat, minibatch_kernels, minibatch_dim)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` in [−1, 1] → logit ``(N,)`` and features ``(N, F)``."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last))
        score, features = self.score(features).flatten().float(), features.flatten(1)
        if self.closeness is not None:
            score = score + self.closeness(features)
        return Discrimination(score, features.float())
