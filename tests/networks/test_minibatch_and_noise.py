"""Layers that look at the whole batch, and layers that draw for each of its rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from genctl import registry
from genctl.batch_coupling import couples_examples, coupling_layer
from genctl.errors import ConfigError
from genctl.networks.layers.minibatch_discrimination import MinibatchDiscrimination
from genctl.networks.layers.noise import Dropout, GaussianNoise, drawing_layers, use_stream
from genctl.objectives.penalties import GradientPenalty
from genctl.randomness import RandomStream


# --- minibatch discrimination ---------------------------------------------------------------------
def test_minibatch_discrimination_by_hand():
    """Two kernels of two dimensions; M = f. Kernel 0 sees distances 3, 1, 4; kernel 1 sees 0, 2, 2."""
    layer = MinibatchDiscrimination(4, 2, 2).double()
    with torch.no_grad():
        layer.tensor.weight.copy_(torch.eye(4))
    f = torch.tensor([[0, 0, 5, 1], [1, 2, 5, 1], [0, -1, 4, 0]], dtype=torch.float64)
    e = math.exp
    expected = torch.tensor(
        [
            [1 + e(-3) + e(-1), 1 + e(0) + e(-2)],
            [1 + e(-3) + e(-4), 1 + e(0) + e(-2)],
            [1 + e(-1) + e(-4), 1 + e(-2) + e(-2)],
        ],
        dtype=torch.float64,
    )
    assert torch.allclose(layer(f), expected, atol=1e-12)


def test_minibatch_discrimination_is_differentiable_twice():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(2, 2, 1).double()
    f = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (f,))
    assert torch.autograd.gradgradcheck(layer, (f,))


def test_a_collapsed_batch_is_seen_at_once():
    """Equal examples give the size of the batch in every kernel, and different ones nearly 1."""
    layer = MinibatchDiscrimination(3, 4, 2)
    assert torch.equal(layer(torch.ones(6, 3)), torch.full((6, 4), 6.0))
    far = 1e4 * torch.arange(6.0)[:, None] * torch.tensor([1.0, 2.0, -5.0])
    assert torch.allclose(layer(far), torch.ones(6, 4))


def test_the_score_is_linear_in_features_and_closeness():
    """As if o(x) were appended to the features, which the last layer sees together."""
    torch.manual_seed(0)
    network = registry.get("discriminator", "mlp").build((2,), width=6, minibatch_kernels=3)
    found = network(torch.randn(5, 2))
    closeness = network.closeness[0](found.features)
    weight = torch.cat([network.score.weight, network.closeness[1].weight], 1)
    joint = torch.cat([found.features, closeness], 1)
    expected = nn.functional.linear(joint, weight, network.score.bias).squeeze(1)
    assert torch.allclose(found.score, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "dcgan", "resnet"])
def test_at_the_start_the_closeness_does_not_drown_the_features(kind):
    """Nearly equal examples count the whole batch in every kernel."""
    torch.manual_seed(0)
    keywords = {"width": 8, "minibatch_kernels": 32}
    network = registry.get("discriminator", kind).build((1, 8, 8), **keywords)
    x = torch.randn(1, 1, 8, 8).repeat(64, 1, 1, 1)
    features = network(x).features
    assert float(network.closeness(features).detach().abs().max()) < 2.0


@pytest.mark.parametrize(
    ("kind", "shape", "option", "words"),
    [
        ("mlp", (2,), {"minibatch_kernels": 2}, r"minibatch discrimination \(layer closeness.0\)"),
        ("dcgan", (1, 8, 8), {}, None),
        ("dcgan", (1, 16, 16), {}, r"batch norm \(layer layers.3\)"),
        ("dcgan", (1, 16, 16), {"norm": "spectral"}, None),
        ("dcgan", (1, 16, 16), {"norm": "virtual"}, None),
    ],
)
def test_coupled_examples_have_no_slope_of_their_own(kind, shape, option, words):
    network = registry.get("discriminator", kind).build(shape, width=4, **option)
    assert couples_examples(network) == (words is not None)
    if words is None:
        assert coupling_layer(network) is None
        GradientPenalty().check(network)
    else:
        with pytest.raises(ConfigError, match=words):
            GradientPenalty().check(network)


# --- noise and dropout ----------------------------------------------------------------------------
NOISE = [GaussianNoise(0.5), Dropout(0.25)]


@pytest.mark.parametrize("layer", NOISE, ids=repr)
def test_noise_belongs_to_the_row_of_the_whole_batch(layer, device):
    """Two ranks with half the rows each draw what one does, and a repeated step draws the same."""
    x = torch.randn(16, 3, 4, device=device)
    layer.train()

    def shown(rows, rank, step=5):
        stream = RandomStream(0, "training", step, rank=rank, device=device).fork("layers")
        use_stream([layer], stream)
        return [layer(rows), layer(rows)]

    whole, again, other = shown(x, 0), shown(x, 0), shown(x, 0, step=6)
    halves = [shown(x[:8], 0), shown(x[8:], 1)]
    for call in (0, 1):
        assert torch.equal(whole[call], torch.cat([half[call] for half in halves]))
        assert torch.equal(whole[call], again[call])
    assert not torch.equal(whole[0], whole[1])  # each pass has noise of its own
    assert not torch.equal(whole[0], other[0])
    layer.stream = None
    assert not torch.equal(layer(x), x)  # used alone, without a training around it
    layer.eval()
    assert torch.equal(layer(x), x)


def test_moments_of_noise_and_dropout():
    x = torch.full((4000, 10), 2.0)
    noisy, dropped = GaussianNoise(0.5), Dropout(0.25)
    use_stream([noisy, dropped], RandomStream(0, "moments"))
    y = noisy(x)
    assert float(y.mean()) == pytest.approx(2.0, abs=0.01)  # standard error 0.0025
    assert float(y.std()) == pytest.approx(0.5, abs=0.01)
    y = dropped(x)
    assert y.unique().tolist() == pytest.approx([0.0, 2.0 / 0.75])
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.01)


def test_noise_is_on_the_input_and_on_every_hidden_layer():
    for kind, shape in (("mlp", (1, 8, 8)), ("dcgan", (1, 16, 16)), ("conv-critic", (1, 16, 16))):
        network = registry.get("discriminator", kind).build(shape, width=4, noise=0.1, dropout=0.5)
        kinds = [type(layer) for layer in drawing_layers(network)]
        assert kinds == [GaussianNoise, Dropout, GaussianNoise, Dropout, GaussianNoise]
        network.eval()
        x = torch.randn(3, *shape)
        assert torch.equal(network(x).score, network(x).score)
