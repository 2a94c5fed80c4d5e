"""Classifiers: small networks that name a picture, and give the features they name it by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genctl.errors import DataError
from genctl.registry import register

SMALLEST = 8
"""Edge in pixels below which nothing is left after two halvings."""

LAST_EDGE = 7
"""Stages halve the picture until it is at most this large."""


@register("classifier", "conv")
class ConvClassifier(nn.Module):
    """Small convolutional classifier for every size that is a multiple of 4 from 8 up.

    Each stage is ``depth`` 3×3 convolutions with group norm and ReLU, halved by the last; channels
    double from stage to stage. There are at least two stages, and as many as it takes to come down
    to 7 pixels. Group norm, because features of an example must not depend on its neighbours.

    Args:
        shape: ``(C, H, W)`` of one picture.
        classes: number of logits.
        width: channels of the first stage.
        depth: convolutions in a stage.
        features: size of the layer before the logits.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        *,
        width: int = 32,
        depth: int = 1,
        features: int = 128,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < SMALLEST or any(edge % 4 for edge in shape[1:]):
            raise DataError(
                f"data of shape {tuple(shape)}",
                f"this classifier takes pictures of a multiple of 4 pixels from {SMALLEST} up",
                "--set data.size=32",
            )
        channels, height, width_in = shape
        stages = max(2, math.ceil(math.log2(max(height, width_in) / LAST_EDGE)))
        layers: list[nn.Module] = []
        for stage in range(stages):
            outputs = width << stage
            for i in range(depth):
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
                if i == depth - 1:  # halved before the norm, which then costs a quarter
                    layers.append(nn.MaxPool2d(2))
                layers += [nn.GroupNorm(math.gcd(outputs, 8), outputs), nn.ReLU(inplace=True)]
                channels = outputs
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        flat = channels * (height >> stages) * (width_in >> stages)
        self.embed = nn.Linear(flat, features)
        self.logits = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, H, W)`` in [−1, 1] → features ``(N, F)``, logits ``(N, classes)``."""
        features = torch.relu(self.embed(self.trunk(x)))
        return features, self.logits(features)
