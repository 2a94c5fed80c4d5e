"""Which networks need to see a batch as a whole, because its examples take notice of each other.

Such a network gives an example another score in other company. So real and generated examples must
be shown to it apart, and the slope of a score at one example is not defined.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def coupling_layer(network: nn.Module) -> str | None:
    """The first layer whose output for one example depends on the others of its batch.

    Batch norms do in training; other layers give themselves a name in ``couples_examples``.

    Args:
        network: any module.

    Returns:
        What it is and where, ``batch norm (layer 1.0)`` say; None if there is none.
    """
    for name, layer in network.named_modules():
        norm = "batch norm" if isinstance(layer, _BatchNorm) else None
        if kind := norm or getattr(layer, "couples_examples", None):
            return f"{kind} (layer {name})"
    return None


def couples_examples(network: nn.Module) -> bool:
    """Whether the network has such a layer."""
    return coupling_layer(network) is not None
