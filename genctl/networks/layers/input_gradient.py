"""The gradient of a score with respect to its input, differentiable in the weights.

Autograd gives it for any network by differentiating twice. A chain of linear layers and piecewise
linear activations is cheaper: between two kinks it is a linear map, so its gradient is the product
of its transposed layers and of slopes that do not depend on the weights, and the derivative of that
product takes one pass of ordinary autograd. Both are exact and agree but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genctl.networks.layers.gemm_convolution import Conv2d, transposed


def input_gradient(score: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∇ of each example's score by autograd, with a graph of its own.

    Args:
        score: ``(N, *shape)`` → ``(N,)``; row i may depend on example i only.
        x: ``(N, *shape)``.

    Returns:
        ``(N, *shape)``.
    """
    x = x if x.requires_grad else x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(x).sum(), x, create_graph=True)
    return gradient


def piecewise_linear(network: nn.Module) -> list[nn.Module] | None:
    """The layers of a network for ``transposed_chain``, or None where it is not such a chain."""
    chain = getattr(network, "chain", None)
    if chain is None:
        return None
    found = chain()
    if found is None:
        return None
    layers = list(_flat(found))
    return layers if all(_known(layer) for layer in layers) else None


def transposed_chain(layers: list[nn.Module], x: Tensor) -> Tensor:
    """∇ of each example's score as the product of the transposed layers.

    Args:
        layers: what ``piecewise_linear`` found; the last gives ``(N, 1)``.
        x: ``(N, *shape)``.

    Returns:
        ``(N, *shape)``.
    """
    inputs: list[Tensor] = []
    with torch.no_grad():
        for layer in layers:
            inputs.append(x)  # whose signs an activation is asked for later: nothing in place
            kinked = isinstance(layer, nn.ReLU | nn.LeakyReLU)
            x = F.leaky_relu(x, _slope(layer)) if kinked else layer(x)
    gradient = torch.ones_like(x)
    for layer, kept in zip(reversed(layers), reversed(inputs), strict=True):
        gradient = _transposed(layer, kept, gradient)
    return gradient


def _flat(layer: nn.Module) -> Iterator[nn.Module]:
    """The layers inside nested sequences, in order; a shared one as often as it is applied."""
    if type(layer) is nn.Sequential:
        for child in layer:
            yield from _flat(child)
    else:
        yield layer


def _known(layer: nn.Module) -> bool:
    """Of exactly a known type, so that no subclass or parametrisation computes something else."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    if type(layer) in (nn.Conv2d, Conv2d):
        assert isinstance(layer, nn.Conv2d)
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in (nn.Linear, nn.ReLU, nn.LeakyReLU)


def _slope(layer: nn.Module) -> float:
    """Of a rectifier, below zero."""
    return layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0


def _transposed(layer: nn.Module, kept: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at a layer's output, carried to its input."""
    if isinstance(layer, nn.Linear):
        return F.linear(gradient, layer.weight.t())
    if isinstance(layer, nn.Flatten):
        return gradient.unflatten(1, kept.shape[1:])
    if not isinstance(layer, nn.Conv2d):
        carried: Tensor = torch.ops.aten.leaky_relu_backward(gradient, kept, _slope(layer), False)
        return carried
    return transposed(layer, gradient, (kept.shape[2], kept.shape[3]))
