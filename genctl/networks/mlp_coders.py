"""Fully connected encoder and decoder, for pictures of any size and for points."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from genctl.registry import register

Size = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=0)]
Activation = Literal["relu", "leaky-relu", "silu", "softplus", "tanh"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def stack(
    inputs: int, outputs: int, width: int, depth: int, activation: Activation
) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units, then a linear layer; depth 0 is linear."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


@register("encoder", "mlp")
class MLPEncoder(nn.Module):
    """Fully connected encoder (arXiv:1312.6114, appendix C.2).

    Args:
        shape: one example, ``(C, H, W)`` or ``(D,)``.
        outputs: numbers given for one example.
        width: units of a hidden layer.
        depth: hidden layers; 0 is a linear map.
        activation: what follows a hidden layer.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        width: Size = 500,
        depth: Depth = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.layers = stack(math.prod(shape), outputs, width, depth, activation)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, outputs)``."""
        return self.layers(x.flatten(1))


@register("decoder", "mlp")
class MLPDecoder(nn.Module):
    """Fully connected decoder (arXiv:1312.6114, appendix C.1); its output is unbounded.

    Args:
        latent_dim: numbers in one latent.
        shape: one example, ``(C, H, W)`` or ``(D,)``.
        width: units of a hidden layer.
        depth: hidden layers; 0 is a linear map.
        activation: what follows a hidden layer.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        *,
        width: Size = 500,
        depth: Depth = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.layers = stack(latent_dim, math.prod(shape), width, depth, activation)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, *shape)``."""
        return self.layers(z).unflatten(1, self.shape)
