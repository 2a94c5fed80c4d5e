"""The product of transposed layers equals what autograd finds by differentiating twice."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from genctl import registry
from genctl.errors import ConfigError
from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.input_gradient import (
    input_gradient,
    piecewise_linear,
    transposed_chain,
)

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 8, 12), (2,)]


def chains():
    """Every registered discriminator that is a chain, with every kind of shape it takes."""
    found = []
    for name in registry.names("discriminator"):
        for shape in SHAPES:
            keywords = {"width": 8}
            try:
                network = registry.get("discriminator", name).build(shape, **keywords)
            except ConfigError:
                continue
            if piecewise_linear(network) is not None:
                found.append((name, shape, {}))
                if "kernel" in registry.get("discriminator", name).parameters:
                    found.append((name, shape, {"kernel": 5}))
    return found


def test_chains_were_found():
    assert {name for name, _, _ in chains()} == {"conv-critic", "mlp"}


def penalty(gradient):
    wide = gradient.flatten(1).to(torch.promote_types(gradient.dtype, torch.float32))
    return (wide.norm(dim=1) - 1.0).square().mean()


def both(network, x):
    """Slope, and the gradient of a penalty on it for every weight, in both ways."""
    layers = piecewise_linear(network)
    slopes = [
        input_gradient(lambda x: network(x).score, x),
        transposed_chain(layers, x),
    ]
    weights = [p for p in network.parameters() if p.dim() > 1]
    return [(s.detach(), *torch.autograd.grad(penalty(s), weights)) for s in slopes]


def far(a, b):
    return float(((a - b).norm() / a.norm()).detach())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("name", "shape", "keywords"), chains())
def test_it_equals_double_backward(name, shape, keywords, dtype, limit, device):
    torch.manual_seed(0)
    network = registry.get("discriminator", name).build(shape, width=8, **keywords)
    network = network.to(device, dtype)
    x = torch.randn(5, *shape, device=device, dtype=dtype)
    found = both(network, x)
    assert all(part[0].shape == x.shape for part in found)
    for expected, got in zip(*found, strict=True):
        assert far(expected, got) < limit
        assert expected.norm() > 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions_that_run_as_products_agree_too(dtype):
    """Wide enough that some directions are matrix products: both ways differentiate through them."""
    torch.manual_seed(0)
    shape = (3, 32, 32)
    network = registry.get("discriminator", "conv-critic").build(shape, width=64).to(dtype)
    reference = copy.deepcopy(network)
    for module in reference.modules():
        if isinstance(module, Conv2d):
            module.__class__ = nn.Conv2d
    x = torch.randn(4, *shape, dtype=dtype)
    limit = 1e-5 if dtype == torch.float32 else 1e-10
    expected = both(reference, x)[0]
    for found in both(network, x):
        for right, got in zip(expected, found, strict=True):
            assert far(right, got) < limit


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(2, 4, 3, stride=3, padding=1),
        nn.Conv2d(2, 4, (2, 3), stride=(2, 1), padding=(0, 2)),
        nn.Conv2d(2, 4, 3, dilation=2, groups=2, bias=False),
        Conv2d(2, 4, 4, stride=2, padding=1),
    ],
)
def test_every_geometry_of_a_convolution(conv):
    """Strides that leave pixels over, dilation, groups: the gradient has the input's shape."""
    torch.manual_seed(1)
    x = torch.randn(3, 2, 11, 12, dtype=torch.float64)
    width = conv(x.float())[0].numel()
    network = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(width, 1)).double()
    network.chain = lambda: network
    expected = input_gradient(lambda x: network(x).squeeze(1), x)
    found = transposed_chain(piecewise_linear(network), x)
    assert far(expected, found) < 1e-12
    a, b = (torch.autograd.grad(penalty(g), conv.weight)[0] for g in (expected, found))
    assert far(a, b) < 1e-12


def test_an_activation_used_twice_counts_twice():
    act = nn.LeakyReLU(0.3)
    network = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 1)).double()
    network.chain = lambda: network
    x = torch.randn(6, 4, dtype=torch.float64)
    expected = input_gradient(lambda x: network(x).squeeze(1), x)
    assert far(expected, transposed_chain(piecewise_linear(network), x)) < 1e-12


@pytest.mark.parametrize(
    "layer",
    [
        nn.Tanh(),
        nn.LayerNorm(4),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Flatten(0),
        spectral_norm(nn.Linear(4, 4)),
    ],
)
def test_anything_else_is_left_to_autograd(layer):
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer))
    network.chain = lambda: network
    assert piecewise_linear(network) is None


def test_a_hook_is_left_to_autograd():
    network = nn.Sequential(nn.Linear(4, 1))
    network.chain = lambda: network
    assert piecewise_linear(network) is not None
    network[0].register_forward_hook(lambda *_: None)
    assert piecewise_linear(network) is None


def test_networks_that_are_no_chain_are_left_to_autograd():
    network = registry.get("discriminator", "dcgan").build((1, 8, 8), width=4)
    assert piecewise_linear(network) is None


def test_under_autocast_the_weights_keep_their_gradient():
    """Autocast may hand out weights that were cast without a graph; both ways must differentiate."""
    torch.manual_seed(0)
    network = registry.get("discriminator", "conv-critic").build((1, 16, 16), width=16)
    x = torch.randn(16, 1, 16, 16)
    exact = both(network, x)[1]
    with torch.autocast("cpu", torch.bfloat16):
        low = both(network, x)
    for found in low:
        for expected, got in zip(exact, found, strict=True):
            assert far(expected, got.float()) < 0.1
