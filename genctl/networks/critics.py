"""Convolutional critics that score each example by itself, for penalties on its slope."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.activation import Activation, Slope, activation_layer
from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.halving import halvings
from genctl.networks.layers.noise import Share, Std, noise_layers
from genctl.networks.layers.normalisation import Bound, norm_layers, normalise_weights
from genctl.networks.layers.resampling import Down, Kernel, halved
from genctl.registry import register
from genctl.types import Discrimination


@register("discriminator", "conv-critic")
class ConvCritic(nn.Module):
    """Strided convolutions and LeakyReLU, no batch norm (after arXiv:1704.00028, appendix).

    Args:
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels after the first layer; doubled at each further halving.
        kernel: 4, or the paper's 5; one of 4 is 3 where the convolution has no stride.
        norm: of all layers but the first and the last, or of all weights; only such as do not
            couple the examples of a batch, see ``layers/normalisation.py``.
        spectral_bound: the largest singular value of each weight under ``norm: spectral``.
        activation: of all layers but the last.
        slope: of the leaky ReLU below zero.
        down: how the resolution is halved, see ``layers/resampling.py``.
        noise: standard deviation of Gaussian noise on the input and on every hidden layer.
        dropout: share of the elements of every hidden layer that is dropped.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        kernel: Kernel = 4,
        norm: Literal["none", "spectral", "weight", "layer", "instance"] = "none",
        spectral_bound: Bound = 1.0,
        activation: Activation = "leaky-relu",
        slope: Slope = 0.2,
        down: Down = "strided",
        noise: Std = 0.0,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        downs = halvings(shape, "conv-critic")
        inputs, outputs = shape[0], width
        layers: list[nn.Module] = noise_layers(noise)
        for level in range(downs):
            layers += [
                *halved(down, inputs, outputs, kernel, bias=True),
                *(norm_layers(norm, outputs) if level else []),
                activation_layer(activation, slope),
                *noise_layers(noise, dropout),
            ]
            inputs, outputs = outputs, 2 * outputs
        self.layers = nn.Sequential(*layers)
        self.score = Conv2d(inputs, 1, (shape[1] >> downs, shape[2] >> downs))
        for layer in self.layers:  # without norms nothing else keeps the scale over the layers
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=slope if activation == "leaky-relu" else 0)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        normalise_weights(self, norm, spectral_bound)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` in [−1, 1] → score ``(N,)`` and features ``(N, F)``."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last))
        return Discrimination(self.score(features).flatten().float(), features.flatten(1).float())

    def chain(self) -> nn.Sequential:
        """The layers from an example to its score."""
        return nn.Sequential(self.layers, self.score, nn.Flatten())
