"""All layers of a convolutional network side by side, each on a 4×4 grid.

The features of Radford et al. 2016 (arXiv:1511.06434, section 5.1): "the discriminator's
convolutional features from all layers, maxpooling each layer's representation to produce a 4×4
spatial grid", flattened and concatenated.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GRID = 4
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU)


def pooled_layers(
    network: nn.Module, forward: Callable[[Tensor], object], x: Tensor
) -> Tensor | None:
    """Every activation of a forward pass that is a map, as ``(N, F)``; None where there is none.

    Args:
        network: holds the activations as modules.
        forward: runs it.
        x: ``(N, *shape)``.
    """
    maps: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if out.dim() == 4 and out.shape[2] * out.shape[3] > 1:
            edges = [min(GRID, edge) for edge in out.shape[2:]]
            maps.append(F.adaptive_max_pool2d(out.float(), edges).flatten(1))

    layers = [module for module in network.modules() if isinstance(module, ACTIVATIONS)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        forward(x)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(maps, 1) if maps else None
