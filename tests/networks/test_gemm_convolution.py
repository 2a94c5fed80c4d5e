"""Convolutions as matrix products: torch's numbers, to the second derivative, and torch's names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genctl.networks.layers import gemm_convolution
from genctl.networks.layers.gemm_convolution import (
    MAPS,
    Conv2d,
    ConvTranspose2d,
    Geometry,
    transposed,
)

# kernel, stride, padding, extra rows of a transposed one, height and width
SHAPES = [
    (4, 2, 1, 0, (8, 6)),
    (5, 2, 2, 1, (8, 10)),
    (3, 1, 1, 0, (5, 4)),
    (3, 2, 1, 1, (7, 8)),  # the last row of 8 is seen by no window
    (3, 2, 0, 0, (8, 8)),
    (2, 2, 0, 0, (4, 6)),
    (1, 1, 0, 0, (3, 3)),
    ((4, 3), (2, 1), (1, 0), 0, (6, 5)),
    (4, 2, 3, 1, (5, 5)),  # the first window sees only padding
    (3, 2, 1, 0, (1, 2)),  # smaller than the stride
    ((4, 3), 1, 0, 0, (4, 3)),  # one window
]


@pytest.fixture(params=["products", "native"])
def way(request, monkeypatch) -> str:
    """Every shape by products, and through the same function by torch's kernels."""
    products = request.param == "products"
    monkeypatch.setattr(Geometry, "by_product", lambda self, what, dtype: products)
    return request.param


@pytest.fixture
def products(monkeypatch):
    monkeypatch.setattr(Geometry, "by_product", lambda self, what, dtype: True)


def pair(kind, shape, inputs=3, outputs=5, bias=True, dtype=torch.float32):
    """Our layer, torch's with the same weights, and an input."""
    torch.manual_seed(0)
    kernel, stride, padding, extra, size = shape
    ours: nn.Module
    if kind == "conv":
        ours, torchs = Conv2d, nn.Conv2d
        settings = {}
    else:
        ours, torchs = ConvTranspose2d, nn.ConvTranspose2d
        settings = {"output_padding": extra}
    layers = [
        layer(inputs, outputs, kernel, stride, padding, bias=bias, **settings).to(dtype)
        for layer in (ours, torchs)
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    return *layers, torch.randn(4, inputs, *size, dtype=dtype)


def gradients(layer, x):
    x = x.detach().requires_grad_()
    y = layer(x)
    direction = torch.linspace(-1, 1, y.numel(), dtype=torch.float32).to(y.dtype).view_as(y)
    return y, *torch.autograd.grad(y, [x, *layer.parameters()], direction)


def distance(a, b):
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("kind", ["conv", "transposed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_torchs(kind, shape, layout, products):
    ours, torchs, x = pair(kind, shape)
    ours, x = ours.to(memory_format=layout), x.to(memory_format=layout)
    for a, b in zip(gradients(ours, x), gradients(torchs, x), strict=True):
        assert a.shape == b.shape
        assert distance(a, b) < 2e-6


@pytest.mark.parametrize("kind", ["conv", "transposed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_first_and_second_derivatives(kind, shape, way):
    ours, _, x = pair(kind, shape, 2, 2, bias=False, dtype=torch.float64)
    x = x[:2].requires_grad_()

    def apply(x, weight):
        return torch.func.functional_call(ours, {"weight": weight}, x)

    arguments = (x, ours.weight.detach().requires_grad_())
    assert torch.autograd.gradcheck(apply, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, arguments, fast_mode=True)


def test_a_third_derivative(products):
    """Penalties on gradients are differentiated twice more."""
    ours, torchs, x = pair("conv", SHAPES[0], dtype=torch.float64)
    found = []
    for layer in (ours, torchs):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(bend.square().sum(), layer.weight)[0])
    assert distance(*found) < 1e-10


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_transposed_map_is_the_input_gradient(shape, way):
    ours, torchs, x = pair("conv", shape, dtype=torch.float64)
    x.requires_grad_()
    y = torchs(x)
    direction = torch.randn_like(y).requires_grad_()
    (expected,) = torch.autograd.grad(y, x, direction, create_graph=True)
    found = transposed(ours, direction, x.shape[2:])
    assert torch.allclose(found, expected, rtol=1e-12)
    weight = torch.randn_like(x)
    wanted = torch.autograd.grad(expected, [direction, torchs.weight], weight)
    given = torch.autograd.grad(found, [direction, ours.weight], weight)
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(given, wanted, strict=True))


@pytest.mark.parametrize("kind", ["conv", "transposed"])
def test_inputs_that_are_views_of_something_larger(kind, products):
    ours, torchs, x = pair(kind, SHAPES[0])
    wide = torch.randn(x.shape[2] + 1, 9, x.shape[1] + 2, x.shape[3])
    view = wide.permute(1, 2, 0, 3)[1::2, 1:-1, 1:]
    assert view.shape == x.shape
    assert not view.is_contiguous()
    for a, b in zip(gradients(ours, view), gradients(torchs, view), strict=True):
        assert distance(a, b) < 2e-6


@pytest.mark.parametrize("kind", ["conv", "transposed"])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[1], SHAPES[-1]], ids=str)
def test_autocast_rounds_as_torch_does(kind, shape, products):
    """Both sides sum in float32 and round once, so they differ by single roundings at most."""
    ours, torchs, x = pair(kind, shape, 16, 24, bias=False)  # ours rounds again to add a bias
    found = []
    for layer in (ours, torchs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(gradients(layer, x))
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        assert distance(a, b) < 2e-3
    assert found[0][0].dtype == torch.bfloat16
    assert ours.weight.dtype == torch.float32


def test_backward_outside_and_double_inside_autocast(products):
    ours, torchs, x = pair("conv", SHAPES[0], 16, 16)
    found = []
    for layer in (ours, torchs):
        x = x.detach().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x).tanh().float().sum()
            (slope,) = torch.autograd.grad(y, x, create_graph=True)
            penalty = (slope.float().flatten(1).norm(dim=1) - 1).square().mean()
        penalty.backward()
        found.append(layer.weight.grad)
    assert distance(*found) < 2e-2


@pytest.mark.parametrize("kind", ["conv", "transposed"])
def test_what_follows_may_work_in_place(kind, products):
    ours, torchs, x = pair(kind, SHAPES[0], bias=False)
    activation = nn.LeakyReLU(0.2, inplace=True)
    ours, torchs = nn.Sequential(ours, activation), nn.Sequential(torchs, activation)
    for a, b in zip(gradients(ours, x), gradients(torchs, x), strict=True):
        assert distance(a, b) < 2e-6


def test_gradients_that_nobody_wants_are_not_computed(products, monkeypatch):
    ours, _, x = pair("conv", SHAPES[0], bias=False)
    seen = []
    for name in MAPS:
        way = gemm_convolution._PRODUCTS[name]
        spy = lambda *args, name=name, way=way: seen.append(name) or way(*args)  # noqa: E731
        monkeypatch.setitem(gemm_convolution._PRODUCTS, name, spy)
    ours(x).sum().backward()  # an image's gradient
    assert seen == ["gather", "correlate"]
    seen.clear()
    ours.requires_grad_(False)
    ours(x.requires_grad_()).sum().backward()  # a frozen player's weights
    assert seen == ["gather", "scatter"]


@pytest.mark.parametrize("kind", ["conv", "transposed"])
def test_initial_weights_and_names_are_torchs(kind):
    ours, torchs = (Conv2d, nn.Conv2d) if kind == "conv" else (ConvTranspose2d, nn.ConvTranspose2d)
    states = []
    for layer in (ours, torchs):
        torch.manual_seed(1)
        states.append(layer(3, 5, 4, 2, 1).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_products_cannot_do_is_left_to_torch(products):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 9, 9)
    for settings in (
        {"groups": 2},
        {"dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "same"},
        {"stride": 4},
    ):
        layer = Conv2d(4, 6, 3, **settings)
        assert torch.equal(layer(x), nn.Conv2d.forward(layer, x))
    layer = ConvTranspose2d(4, 6, 3, stride=2)
    assert layer(x, [20, 20]).shape[2:] == (20, 20)
    assert Conv2d(4, 6, 3)(x[0]).shape == (6, 7, 7)
    assert Conv2d(4, 6, 3)(x[:0]).shape == (0, 6, 7, 7)


def test_the_shape_decides_layer_by_layer():
    """The customary DCGAN at 64 pixels, from its deepest layer to its first."""

    def chosen(inputs, outputs, edge, dtype=torch.bfloat16):
        half = (edge // 2, edge // 2)
        layer = Geometry(inputs, outputs, (edge, edge), half, (4, 4), (2, 2), (1, 1))
        return {name for name in MAPS if layer.by_product(name, dtype)}

    assert chosen(256, 512, 8) == set(MAPS)
    assert chosen(256, 512, 8, torch.float32) == set(MAPS)
    assert chosen(128, 256, 16) == {"correlate"}
    assert chosen(128, 256, 16, torch.float32) == set()
    assert chosen(64, 128, 32) == set()
    assert chosen(64, 128, 8) == {"correlate"}  # narrow and deep
    assert chosen(64, 128, 14) == {"correlate"}
    assert chosen(64, 128, 14, torch.float32) == set()
    assert chosen(3, 64, 16) == set()
    score = Geometry(512, 1, (4, 4), (1, 1), (4, 4), (1, 1), (0, 0))
    assert all(score.by_product(name, torch.float32) for name in MAPS)


def test_other_devices_keep_their_own_kernels(device, monkeypatch):
    used = []
    monkeypatch.setattr(Geometry, "by_product", lambda *_: used.append(1) or True)
    layer = Conv2d(3, 4, 4, 2, 1).to(device)
    layer(torch.randn(2, 3, 8, 8, device=device)).sum().backward()
    assert bool(used) == (device == "cpu")
    layer = Conv2d(3, 4, 4, 2, 1, device="meta")
    used.clear()
    assert layer(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 4, 4, 4)
    assert not used
