"""The normalisations that networks offer as an option: of activations, or of the weights.

* ``batch`` over the whole batch, ``virtual`` over a fixed batch and the example itself (both for
  each channel), ``layer`` over all of an example (arXiv:1607.06450), ``instance`` over the
  positions of each of its channels (arXiv:1607.08022): a layer between a linear one and its
  activation.
* ``spectral`` divides each linear map by its largest singular value (Miyato et al. 2018,
  arXiv:1802.05957, algorithm 1), ``weight`` learns length and direction of each row apart
  (Salimans & Kingma 2016, arXiv:1602.07868): no layer, the weights are reparametrised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from genctl.errors import ConfigError
from genctl.networks.layers.batch_norm import BatchNorm1d, BatchNorm2d
from genctl.networks.layers.virtual_batch_norm import BesideReference, VirtualBatchNorm

Norm = Literal["none", "batch", "spectral", "weight", "virtual", "layer", "instance"]
FlatNorm = Literal["none", "batch", "spectral", "weight", "virtual", "layer"]
"""Vectors have no positions to normalise an instance over."""

OF_WEIGHTS = ("spectral", "weight")

Bound = Annotated[float, Field(gt=0)]


def norm_layers(norm: Norm, channels: int, positions: bool = True) -> list[nn.Module]:
    """The layer between a linear layer and its activation; none where weights are normalised.

    Args:
        norm: which.
        channels: C of ``(N, C, H, W)`` or ``(N, C)``.
        positions: whether there are H and W.
    """
    if norm == "batch":
        return [BatchNorm2d(channels) if positions else BatchNorm1d(channels)]
    if norm == "virtual":
        return [VirtualBatchNorm(channels)]
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "instance":
        return [nn.InstanceNorm2d(channels, affine=True)]
    return []


def needs_bias(norm: Norm) -> bool:
    """Whether the linear layer before it keeps its bias, which a norm layer has of its own."""
    return norm == "none" or norm in OF_WEIGHTS


def sequence(layers: Sequence[nn.Module], norm: Norm, shape: tuple[int, ...]) -> nn.Sequential:
    """The layers in a row, beside a reference batch where virtual batch norm needs one.

    Args:
        layers: in order.
        norm: which they hold.
        shape: of one example of the input.
    """
    return BesideReference(*layers, shape=shape) if norm == "virtual" else nn.Sequential(*layers)


def normalise_weights(network: nn.Module, norm: Norm, bound: float = 1.0) -> None:
    """Reparametrise every linear layer, to be called when the weights have their first values.

    Args:
        network: whose layers.
        norm: which; none if it is not one of the weights.
        bound: the largest singular value under ``spectral``. With L layers the score's slope is at
            most bound^L, for which 1 is little where data are near each other.
    """
    if norm not in OF_WEIGHTS:
        return
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if norm == "spectral":
                spectral = SpectralNorm(layer.weight, bound)
                parametrize.register_parametrization(layer, "weight", spectral)
            else:
                parametrizations.weight_norm(layer)


class SpectralNorm(parametrizations._SpectralNorm):
    """bound · W/σ̂(W), σ̂ = uᵀWv, outside autocast.

    u and v are buffers that take one step of the power iteration at every forward pass in training
    and stay where they are in evaluation. A convolution's W is ``(outputs, inputs · kernel)``.
    """

    def __init__(self, weight: Tensor, bound: float) -> None:
        super().__init__(weight)
        self.bound = bound

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight, differentiable with u and v held fixed."""
        # A model that is only sketched has no numbers, and no autocast for them either.
        with torch.autocast("cpu" if weight.is_meta else weight.device.type, enabled=False):
            out: Tensor = super().forward(weight)
        return out if self.bound == 1.0 else self.bound * out


def refuse_noise_beside_reference(where: str, norm: Norm, noise: float, dropout: float) -> None:
    """A reference batch that is drawn upon anew at every step is no reference.

    Raises:
        ConfigError: virtual batch norm with noise layers.
    """
    if norm == "virtual" and (noise or dropout):
        raise ConfigError(
            where,
            ["virtual batch norm refers to a fixed batch, which noise or dropout would change"],
            "norm layer or batch, or noise and dropout 0",
        )
