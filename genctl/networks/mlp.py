"""Multi-layer perceptrons for toys and small images."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.activation import Activation, Slope, activation_layer
from genctl.networks.layers.minibatch_discrimination import ClosenessScore, KernelDim, Kernels
from genctl.networks.layers.noise import Share, Std, noise_layers
from genctl.networks.layers.normalisation import (
    Bound,
    FlatNorm,
    needs_bias,
    norm_layers,
    normalise_weights,
    refuse_noise_beside_reference,
    sequence,
)
from genctl.registry import register
from genctl.types import Discrimination

Size = Annotated[int, Field(ge=1)]


@register("generator", "mlp")
class MLPGenerator(nn.Module):
    """Fully connected layers; tanh at the end for images, nothing for points.

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)`` or ``(D,)``.
        width: units of a hidden layer.
        depth: hidden layers.
        norm: of the hidden layers, see ``layers/normalisation.py``.
        activation: of the hidden layers.
        slope: of the leaky ReLU below zero.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        *,
        width: Size = 256,
        depth: Size = 2,
        norm: Literal["none", "batch", "virtual"] = "none",
        activation: Activation = "relu",
        slope: Slope = 0.2,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([latent_dim, *[width] * depth]):
            layers += [
                nn.Linear(inputs, outputs, bias=needs_bias(norm)),
                *norm_layers(norm, outputs, positions=False),
                activation_layer(activation, slope),
            ]
        layers += [nn.Linear(width, math.prod(shape)), nn.Unflatten(1, shape)]
        if len(shape) == 3:
            layers.append(nn.Tanh())
        self.layers = sequence(layers, norm, (latent_dim,))

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, *shape)``."""
        out: Tensor = self.layers(z)
        return out


@register("discriminator", "mlp")
class MLPDiscriminator(nn.Module):
    """Fully connected layers to one logit.

    Args:
        shape: ``(C, H, W)`` or ``(D,)``.
        width: units of a hidden layer.
        depth: hidden layers.
        norm: of the hidden layers, or of all weights, see ``layers/normalisation.py``.
        spectral_bound: the largest singular value of each weight under ``norm: spectral``.
        activation: of the hidden layers.
        slope: of the leaky ReLU below zero.
        noise: standard deviation of Gaussian noise on the input and on every hidden layer.
        dropout: share of the units of every hidden layer that is dropped.
        minibatch_kernels: B of minibatch discrimination; 0: none.
        minibatch_dim: its C.

    Raises:
        ConfigError: virtual batch norm with noise or dropout.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Size = 256,
        depth: Size = 2,
        norm: FlatNorm = "none",
        spectral_bound: Bound = 1.0,
        activation: Activation = "leaky-relu",
        slope: Slope = 0.2,
        noise: Std = 0.0,
        dropout: Share = 0.0,
        minibatch_kernels: Kernels = 0,
        minibatch_dim: KernelDim = 5,
    ) -> None:
        refuse_noise_beside_reference("model.discriminator.norm", norm, noise, dropout)
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten(), *noise_layers(noise)]
        for inputs, outputs in pairwise([math.prod(shape), *[width] * depth]):
            layers += [
                nn.Linear(inputs, outputs, bias=needs_bias(norm)),
                *norm_layers(norm, outputs, positions=False),
                activation_layer(activation, slope),
                *noise_layers(noise, dropout),
            ]
        self.layers = sequence(layers, norm, shape)
        self.score = nn.Linear(width, 1)
        normalise_weights(self, norm, spectral_bound)
        self.closeness = None
        if minibatch_kernels:
            self.closeness = ClosenessScore(width, minibatch_kernels, minibatch_dim)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, *shape)`` → logit ``(N,)`` and the last hidden layer ``(N, width)``."""
        features = self.layers(x)
        score = self.score(features).squeeze(1).float()
        if self.closeness is not None:
            score = score + self.closeness(features)
        return Discrimination(score, features.float())

    def chain(self) -> nn.Sequential | None:
        """The layers from an example to its score, where there is nothing beside them."""
        return None if self.closeness is not None else nn.Sequential(self.layers, self.score)
