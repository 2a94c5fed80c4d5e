"""Spectral, weight, layer, instance and virtual batch norm against closed forms and SVD."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genctl import registry
from genctl.networks.layers import virtual_batch_norm
from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.normalisation import norm_layers, normalise_weights
from genctl.networks.layers.virtual_batch_norm import (
    BesideReference,
    VirtualBatchNorm,
    choose_references,
    first_examples,
)


def sigma_max(weight):
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1).double(), 2))


# --- spectral -------------------------------------------------------------------------------------
LINEAR = [
    (lambda: nn.Linear(7, 5), (3, 7)),
    (lambda: Conv2d(3, 6, 4, 2, 1), (2, 3, 8, 8)),  # both ways of a convolution
    (lambda: Conv2d(128, 64, 4), (4, 128, 4, 4)),
]


@pytest.mark.parametrize(("make", "shape"), LINEAR)
def test_spectral_norm_converges_to_one_against_svd(make, shape, device):
    """A9: σ_max(W/σ̂) → 1, from other weights than those it started with."""
    torch.manual_seed(0)
    layer = nn.Sequential(make()).to(device)
    normalise_weights(layer, "spectral")
    x = torch.randn(*shape, device=device)
    with torch.no_grad():
        raw = layer[0].parametrizations.weight.original
        raw.copy_(torch.randn_like(raw))
        layer.eval()
        assert sigma_max(layer[0].weight) > 1.05  # the estimate is that of the old weights
        layer.train()
        for _ in range(300):
            layer(x)
        layer.eval()
    assert sigma_max(layer[0].weight) == pytest.approx(1.0, abs=1e-3)
    assert sigma_max(raw) > 2.0


@pytest.mark.parametrize(("make", "shape"), LINEAR)
def test_one_power_iteration_a_training_forward_and_none_in_evaluation(make, shape):
    torch.manual_seed(0)
    layer = nn.Sequential(make())
    normalise_weights(layer, "spectral")
    norm = layer[0].parametrizations.weight[0]
    raw = layer[0].parametrizations.weight.original
    with torch.no_grad():
        raw.copy_(torch.randn_like(raw))
    matrix, v = raw.detach().flatten(1), norm._v.clone()
    expected_u = nn.functional.normalize(matrix @ v, dim=0)
    expected_v = nn.functional.normalize(matrix.t() @ expected_u, dim=0)
    layer(torch.randn(*shape))
    assert torch.allclose(norm._u, expected_u, atol=1e-5)
    assert torch.allclose(norm._v, expected_v, atol=1e-5)
    kept = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.eval()
    layer(torch.randn(*shape))
    assert all(torch.equal(kept[key], value) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("kind", ["mlp", "dcgan", "conv-critic", "resnet"])
def test_another_bound_is_that_of_every_weight(kind):
    torch.manual_seed(0)
    keywords = {"width": 4, "norm": "spectral", "spectral_bound": 3.0}
    network = registry.get("discriminator", kind).build((1, 16, 16), **keywords)
    with torch.no_grad():
        for _ in range(60):
            network(torch.zeros(1, 1, 16, 16))
    linear = [m for m in network.eval().modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in linear:
        assert sigma_max(layer.weight) == pytest.approx(3.0, rel=5e-3)


def test_the_gradient_of_a_spectrally_normalised_weight():
    """∂/∂W of ⟨A, W/σ⟩ is (A − ⟨A, W/σ⟩ uvᵀ)/σ (Miyato et al. 2018, eq. 12)."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    normalise_weights(layer, "spectral")
    for _ in range(500):
        layer(torch.zeros(1, 4, dtype=torch.float64))
    layer.eval()
    raw = layer[0].parametrizations.weight.original
    direction = torch.randn(3, 4, dtype=torch.float64)
    value = (direction * layer[0].weight).sum()
    (found,) = torch.autograd.grad(value, raw)
    u, s, vh = torch.linalg.svd(raw.detach())
    expected = (direction - value.detach() * torch.outer(u[:, 0], vh[0])) / s[0]
    assert torch.allclose(found, expected, atol=1e-9)


def test_spectral_norm_is_not_computed_in_bfloat16(device):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(64, 64)).to(device)
    normalise_weights(layer, "spectral")
    layer.eval()
    exact = layer[0].weight.detach()
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(layer[0].weight.detach(), exact)
        layer.train()
        layer(torch.randn(2, 64, device=device)).float().sum().backward()
    assert torch.isfinite(layer[0].parametrizations.weight.original.grad).all()


# --- weight, layer, instance ----------------------------------------------------------------------
def test_weight_norm_parts_length_and_direction():
    torch.manual_seed(0)
    layer = nn.Sequential(Conv2d(2, 3, 4, 2, 1))
    before = layer[0].weight.detach().clone()
    normalise_weights(layer, "weight")
    assert torch.allclose(layer[0].weight, before, atol=1e-6)
    length, direction = layer[0].parametrizations.weight.parameters()
    with torch.no_grad():
        length.copy_(torch.tensor([1.0, 2.0, 3.0]).view_as(length))
        direction.mul_(7.0)
    norms = layer[0].weight.flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.tensor([1.0, 2.0, 3.0]), atol=1e-5)


@pytest.mark.parametrize(("norm", "axes"), [("layer", (1, 2, 3)), ("instance", (2, 3))])
def test_layer_and_instance_norm_have_their_axes(norm, axes):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5, 5) * 3 + 2
    (layer,) = norm_layers(norm, 6)
    y = layer(x)
    assert torch.allclose(y.mean(axes), torch.zeros(()), atol=1e-5)
    assert torch.allclose(y.var(axes, correction=0), torch.ones(()), atol=1e-3)
    other = {(1, 2, 3): (2, 3), (2, 3): (0,)}[axes]
    assert y.mean(other).abs().max() > 0.05  # not over fewer or other axes


# --- virtual --------------------------------------------------------------------------------------
def test_virtual_batch_norm_by_hand(monkeypatch):
    """Reference 0 and 2 (mean 1, variance 1); x = 7 joins: mean 3, variance 26/3."""
    monkeypatch.setattr(virtual_batch_norm, "REFERENCES", 2)
    layer = VirtualBatchNorm(1, eps=0.0).double()
    x = torch.tensor([[0.0], [2.0], [7.0]], dtype=torch.float64)
    expected = torch.tensor([[-1.0], [1.0], [4.0 / (26.0 / 3.0) ** 0.5]], dtype=torch.float64)
    assert torch.allclose(layer(x), expected, atol=1e-12)


def test_virtual_batch_norm_is_batch_norm_of_the_joint_batch(monkeypatch):
    """For pictures: example x comes out as row 3 of batch norm of (r₁, r₂, r₃, x)."""
    monkeypatch.setattr(virtual_batch_norm, "REFERENCES", 3)
    torch.manual_seed(0)
    layer = VirtualBatchNorm(2).double()
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2.0)
        layer.bias.uniform_(-1.0, 1.0)
    reference = torch.randn(3, 2, 4, 5, dtype=torch.float64) * 2 + 100
    x = torch.randn(6, 2, 4, 5, dtype=torch.float64) + 101
    found = layer(torch.cat([reference, x]))

    def plain(batch):
        return nn.functional.batch_norm(batch, None, None, layer.weight, layer.bias, True)

    assert torch.allclose(found[:3], plain(reference), atol=1e-8)
    for row, y in zip(x, found[3:], strict=True):
        assert torch.allclose(y, plain(torch.cat([reference, row[None]]))[3], atol=1e-8)


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (2,)), ("dcgan", (1, 8, 8))])
@pytest.mark.parametrize(("norm", "same"), [("virtual", True), ("batch", False)])
def test_the_same_z_in_two_batches(norm, same, kind, shape):
    """A14: the output is unchanged under virtual batch norm, and changed under batch norm."""
    torch.manual_seed(0)
    generator = registry.get("generator", kind).build(5, shape, width=8, norm=norm)
    z = torch.randn(4, 5)
    with torch.no_grad():
        outputs = [generator(torch.cat([z, torch.randn(8, 5) * scale]))[:4] for scale in (1, 3)]
    distance = float((outputs[0] - outputs[1]).abs().max())
    assert (distance < 1e-6) == same, distance


def test_references_are_chosen_once_from_the_coming_batches():
    network = nn.Sequential(BesideReference(VirtualBatchNorm(3), shape=(3,)), nn.Linear(3, 1))
    batches = (torch.full((10, 3), float(i)) for i in range(100))
    choose_references(network, lambda n: first_examples(batches, n))
    expected = torch.arange(64).div(10, rounding_mode="floor").float()
    assert torch.equal(network[0].reference, expected[:, None].expand(-1, 3))
    choose_references(nn.Sequential(nn.Linear(3, 1)), lambda n: pytest.fail("drew for nothing"))


def test_gradients_flow_through_the_reference():
    """The statistics are those of the present weights, so the reference takes part in training."""
    torch.manual_seed(0)
    network = BesideReference(nn.Linear(3, 3), VirtualBatchNorm(3), shape=(3,)).double()
    x = torch.randn(2, 3, dtype=torch.float64)

    def loss(weight):
        parts = {"0.weight": weight}
        return torch.func.functional_call(network, parts, (x,)).square().sum()

    assert torch.autograd.gradcheck(loss, (network[0].weight.detach().requires_grad_(),))
