"""Convolutional critics without normalisation, for penalties on the slope at each example."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.halving import halvings
from genctl.registry import register
from genctl.types import Discrimination


@register("discriminator", "conv-critic")
class ConvCritic(nn.Module):
    """Strided convolutions and LeakyReLU, no norm (after arXiv:1704.00028, appendix).

    Args:
        shape: ``(C, H, W)``; H and W multiples of 4, or 8.
        width: channels after the first layer; doubled at each further halving.
        kernel: 4, or the paper's 5.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        kernel: Literal[4, 5] = 4,
    ) -> None:
        super().__init__()
        downs = halvings(shape, "conv-critic")
        inputs, outputs, padding = shape[0], width, 1 if kernel == 4 else 2
        layers: list[nn.Module] = []
        for _ in range(downs):
            layers += [
                Conv2d(inputs, outputs, kernel, 2, padding),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            inputs, outputs = outputs, 2 * outputs
        self.layers = nn.Sequential(*layers)
        self.score = Conv2d(inputs, 1, (shape[1] >> downs, shape[2] >> downs))
        for layer in self.layers:  # without norms nothing else keeps the scale over the layers
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` in [−1, 1] → score ``(N,)`` and features ``(N, F)``."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last))
        return Discrimination(self.score(features).flatten().float(), features.flatten(1).float())

    def chain(self) -> nn.Sequential:
        """The layers from an example to its score."""
        return nn.Sequential(self.layers, self.score, nn.Flatten())
