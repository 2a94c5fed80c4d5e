"""The activations that networks offer as an option."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

Activation = Literal["relu", "leaky-relu", "elu"]
Slope = Annotated[float, Field(ge=0, lt=1)]


def activation_layer(kind: Activation, slope: float = 0.2, inplace: bool = True) -> nn.Module:
    """The layer of that name.

    Args:
        kind: ``relu``, ``leaky-relu`` or ``elu`` (α = 1).
        slope: of the leaky ReLU below zero; the others have none.
        inplace: overwrite the input, which nobody else may then need.
    """
    if kind == "relu":
        return nn.ReLU(inplace=inplace)
    if kind == "elu":
        return nn.ELU(inplace=inplace)
    return nn.LeakyReLU(slope, inplace=inplace)
