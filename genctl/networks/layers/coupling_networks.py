"""The networks inside couplings. They start at zero, so a new coupling is the identity."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CouplingMLP(nn.Module):
    """Scale and shift of a point's variables; smooth, so that the density is."""

    def __init__(self, variables: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [variables, *[width] * depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(sizes[-1], 2 * variables)
        _zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, D)`` → ``(N, 2D)``."""
        out: Tensor = self.last(self.layers(x))
        return out


class CouplingResNet(nn.Module):
    """Scale and shift of an image's channels by residual blocks (arXiv:1605.08803, section 4.1)."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(depth)
        )
        self.last = nn.Conv2d(width, 2 * channels, 1)
        _zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, 2C, H, W)``."""
        h = self.first(x).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            h = h + block(h)
        out: Tensor = self.last(F.relu(h))
        return out


def _zero(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
