"""The convolutional networks of LAPGAN's finer levels (arXiv:1506.05751, section 4)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.errors import ConfigError
from genctl.networks.layers.batch_norm import BatchNorm2d
from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.normalisation import normalise_weights
from genctl.registry import register
from genctl.types import Discrimination

Size = Annotated[int, Field(ge=1)]
Kernel = Literal[3, 5, 7]


@register("refiner", "lapgan")
class Refiner(nn.Module):
    """Convolutions at one size, from a low-pass image with a plane of noise to what it lacks.

    Args:
        planes: channels of the image, one of noise, and those of the label if there are labels.
        channels: channels of the image.
        width: channels of a hidden layer.
        depth: hidden layers.
        kernel: edge of the windows.
        norm: after each hidden layer; the paper has none.
    """

    def __init__(
        self,
        planes: int,
        channels: int,
        *,
        width: Size = 64,
        depth: Size = 2,
        kernel: Kernel = 7,
        norm: Literal["none", "batch"] = "none",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers.append(Conv2d(planes, width, kernel, padding=kernel // 2, bias=norm == "none"))
            layers += [BatchNorm2d(width)] if norm == "batch" else []
            layers.append(nn.ReLU(inplace=True))
            planes = width
        self.layers = nn.Sequential(*layers, Conv2d(width, channels, kernel, padding=kernel // 2))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, planes, H, W)`` → ``(N, channels, H, W)``, unbounded."""
        out: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return out


@register("discriminator", "lapgan")
class LapganDiscriminator(nn.Module):
    """Strided convolutions without norms, then one linear layer; for every size of image.

    Args:
        shape: ``(C, H, W)``.
        width: channels of the first layer; doubled at each further one.
        depth: layers, each of which halves the image.
        kernel: edge of the windows.
        norm: of the weights, see ``layers/normalisation.py``; the paper has none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: Size = 64,
        depth: Size = 2,
        kernel: Kernel = 5,
        norm: Literal["none", "spectral", "weight"] = "none",
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            problem = f"wants images, the data has shape {shape}"
            raise ConfigError("lapgan", [problem], "use an mlp network for points")
        inputs, height, breadth = shape
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                Conv2d(inputs, width, kernel, stride=2, padding=kernel // 2),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            inputs, width = width, 2 * width
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(inputs * height * breadth, 1)
        normalise_weights(self, norm)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` → logit ``(N,)`` and features ``(N, F)``."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last)).flatten(1)
        return Discrimination(self.score(features).squeeze(1).float(), features.float())
