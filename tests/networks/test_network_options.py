"""T7, T11: an option swaps the layer it names, and nothing else; without options nothing changed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from genctl import registry
from genctl.batch_coupling import couples_examples
from genctl.errors import ConfigError
from genctl.networks.layers.batch_norm import BatchNorm1d, BatchNorm2d
from genctl.networks.layers.minibatch_discrimination import MinibatchDiscrimination
from genctl.networks.layers.noise import Dropout, GaussianNoise
from genctl.networks.layers.normalisation import SpectralNorm
from genctl.networks.layers.virtual_batch_norm import BesideReference, VirtualBatchNorm

IMAGE, POINTS = (3, 16, 16), (2,)
WEIGHT_NORM = nn.utils.parametrizations._WeightNorm

IN_ANY_D = [
    ({"norm": "spectral"}, SpectralNorm),
    ({"norm": "weight"}, WEIGHT_NORM),
    ({"norm": "layer"}, nn.GroupNorm),
]
IN_MLP_AND_DCGAN = [
    ({"norm": "virtual"}, VirtualBatchNorm),
    ({"minibatch_kernels": 3}, MinibatchDiscrimination),
]
ACTIVATIONS = [({"activation": "relu"}, nn.ReLU), ({"activation": "elu"}, nn.ELU)]
DISTURBED = [({"noise": 0.1}, GaussianNoise), ({"dropout": 0.2}, Dropout)]
POOLED = [({"down": "average-pool"}, nn.AvgPool2d)]
INSTANCE = [({"norm": "instance"}, nn.InstanceNorm2d)]
CONVOLUTIONAL = [*IN_ANY_D, *ACTIVATIONS, *DISTURBED, *POOLED, *INSTANCE]
DISCRIMINATORS = {
    ("mlp", POINTS): [
        *IN_ANY_D,
        *IN_MLP_AND_DCGAN,
        *ACTIVATIONS,
        *DISTURBED,
        ({"norm": "batch"}, BatchNorm1d),
    ],
    ("dcgan", IMAGE): [*CONVOLUTIONAL, *IN_MLP_AND_DCGAN],
    ("conv-critic", IMAGE): CONVOLUTIONAL,
    ("resnet", IMAGE): [
        *IN_ANY_D[1:],
        *IN_MLP_AND_DCGAN,
        *INSTANCE,
        ({"norm": "batch"}, BatchNorm2d),
        ({"activation": "leaky-relu"}, nn.LeakyReLU),
    ],
}
GENERATORS = {
    ("mlp", POINTS): [
        ({"norm": "batch"}, BatchNorm1d),
        ({"norm": "virtual"}, VirtualBatchNorm),
        ({"activation": "leaky-relu"}, nn.LeakyReLU),
    ],
    ("dcgan", IMAGE): [
        ({"norm": "virtual"}, VirtualBatchNorm),
        *INSTANCE,
        ({"activation": "elu"}, nn.ELU),
        ({"up": "pixel-shuffle"}, nn.PixelShuffle),
        ({"up": "nearest"}, nn.Upsample),
    ],
    ("resnet", IMAGE): [({"norm": "virtual"}, VirtualBatchNorm), *INSTANCE],
}


def cases(table):
    return [(kind, shape, *case) for (kind, shape), found in table.items() for case in found]


def build(slot, kind, shape, **keywords):
    facts = (shape,) if slot == "discriminator" else (5, shape)
    keywords.setdefault("width", 4)
    return registry.get(slot, kind).build(*facts, **keywords)


def count(network, layer):
    return sum(isinstance(m, layer) for m in network.modules())


def train_two_steps(network, inputs, loss_of):
    """Two steps of gradient descent; every weight has a finite gradient, and the loss falls."""
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        loss_of(network(inputs)).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        assert any(p.grad.abs().sum() > 0 for p in network.parameters())
        optimiser.step()


@pytest.mark.parametrize(("kind", "shape", "option", "layer"), cases(DISCRIMINATORS))
def test_an_option_of_a_discriminator_swaps_its_layer_and_trains(kind, shape, option, layer):
    torch.manual_seed(0)
    network = build("discriminator", kind, shape, **option)
    assert count(build("discriminator", kind, shape), layer) == 0
    assert count(network, layer) > 0
    x = torch.randn(6, *shape)
    train_two_steps(network, x, lambda found: nn.functional.softplus(-found.score).mean())
    found = network(x)
    assert found.score.shape == (6,)
    assert found.features.shape[0] == 6
    assert found.features.dim() == 2


@pytest.mark.parametrize(("kind", "shape", "option", "layer"), cases(GENERATORS))
def test_an_option_of_a_generator_swaps_its_layer_and_trains(kind, shape, option, layer):
    torch.manual_seed(0)
    network = build("generator", kind, shape, **option)
    assert count(build("generator", kind, shape), layer) == 0
    assert count(network, layer) > 0
    train_two_steps(network, torch.randn(6, 5), lambda x: (x - 0.5).square().mean())


@pytest.mark.parametrize(
    ("slot", "kind", "layer"),
    [
        ("discriminator", "dcgan", BatchNorm2d),
        ("generator", "dcgan", BatchNorm2d),
        ("generator", "resnet", BatchNorm2d),
        ("discriminator", "resnet", SpectralNorm),
    ],
)
def test_norm_none_takes_the_default_norm_away(slot, kind, layer):
    assert count(build(slot, kind, IMAGE), layer) > 0
    network = build(slot, kind, IMAGE, norm="none")
    assert count(network, layer) == 0
    assert not parametrize.is_parametrized(network)
    assert all(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("norm", ["spectral", "weight"])
@pytest.mark.parametrize(("kind", "shape"), DISCRIMINATORS)
def test_normalised_weights_are_those_of_every_linear_layer(kind, shape, norm):
    network = build("discriminator", kind, shape, norm=norm)
    linear = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(linear) >= 3
    assert all(parametrize.is_parametrized(m, "weight") for m in linear)


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (12, 20)])
@pytest.mark.parametrize("up", ["transposed", "pixel-shuffle", "nearest"])
def test_every_resampling_keeps_the_shape(up, size, kernel):
    shape = (3, *size)
    down = "strided" if up == "transposed" else "average-pool"
    fake = build("generator", "dcgan", shape, up=up, kernel=kernel)(torch.randn(2, 5))
    assert fake.shape == (2, *shape)
    for kind in ("dcgan", "conv-critic"):
        critic = build("discriminator", kind, shape, down=down, kernel=kernel)
        assert critic(fake).score.shape == (2,)


def test_slope_is_that_of_the_leaky_relu():
    network = build("discriminator", "mlp", POINTS, slope=0.3)
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.3}


@pytest.mark.parametrize("kind", ["mlp", "dcgan"])
def test_noise_beside_a_reference_batch_is_refused(kind):
    shape = POINTS if kind == "mlp" else IMAGE
    for option in ({"noise": 0.1}, {"dropout": 0.1}):
        with pytest.raises(ConfigError, match="fixed batch"):
            build("discriminator", kind, shape, norm="virtual", **option)


@pytest.mark.parametrize(("kind", "shape"), DISCRIMINATORS)
def test_who_couples_examples_is_known(kind, shape):
    """In two halves each example scores as in the whole batch, unless the network says it couples."""
    torch.manual_seed(0)
    x = torch.randn(6, *shape)
    for option, _ in [*DISCRIMINATORS[kind, shape], ({}, None)]:
        if set(option) & {"noise", "dropout"}:
            continue
        network = build("discriminator", kind, shape, **option)
        network.train(count(network, SpectralNorm) == 0)  # the estimate of σ moves in training
        with torch.no_grad():
            whole = network(x).score
            halves = torch.cat([network(x[:3]).score, network(x[3:]).score])
        assert torch.allclose(whole, halves, atol=1e-6) != couples_examples(network), option


# --- without options, the networks are those of the first runs ------------------------------------
def first_mlp_discriminator(shape, width):
    layers = [nn.Flatten()]
    for a, b in ((math.prod(shape), width), (width, width)):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return {"layers": nn.Sequential(*layers), "score": nn.Linear(width, 1)}


def first_mlp_generator(shape, width):
    layers = []
    for a, b in ((5, width), (width, width)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    layers += [nn.Linear(width, math.prod(shape)), nn.Unflatten(1, shape)]
    return {"layers": nn.Sequential(*layers, nn.Tanh())}


def first_dcgan_generator(shape, width):
    layers = [nn.ConvTranspose2d(5, 2 * width, 4, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()]
    layers += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.ConvTranspose2d(width, shape[0], 4, 2, 1, bias=False), nn.Tanh()]
    return dcgan_weights({"layers": nn.Sequential(*layers)})


def first_dcgan_discriminator(shape, width):
    layers = [nn.Conv2d(shape[0], width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width)]
    layers += [nn.LeakyReLU(0.2)]
    score = nn.Conv2d(2 * width, 1, 4, bias=False)
    return dcgan_weights({"layers": nn.Sequential(*layers), "score": score})


def dcgan_weights(parts):
    for layer in nn.ModuleDict(parts).modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return parts


def first_conv_critic(shape, width):
    layers = []
    for a, b in ((shape[0], width), (width, 2 * width)):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    score = nn.Conv2d(2 * width, 1, 4)
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight, a=0.2)
        nn.init.zeros_(layer.bias)
    return {"layers": nn.Sequential(*layers), "score": score}


@pytest.mark.parametrize(
    ("slot", "kind", "first"),
    [
        ("generator", "mlp", first_mlp_generator),
        ("discriminator", "mlp", first_mlp_discriminator),
        ("generator", "dcgan", first_dcgan_generator),
        ("discriminator", "dcgan", first_dcgan_discriminator),
        ("discriminator", "conv-critic", first_conv_critic),
    ],
)
def test_defaults_have_the_names_and_the_first_weights_of_old(slot, kind, first):
    """Names, weights and outputs, bit for bit: checkpoints fit and seeds mean what they meant."""
    torch.manual_seed(3)
    expected = nn.ModuleDict(first(IMAGE, 6))
    torch.manual_seed(3)
    network = build(slot, kind, IMAGE, width=6)
    left, right = expected.state_dict(), network.state_dict()
    assert list(left) == list(right)
    assert all(torch.equal(left[key], right[key]) for key in left)
    inputs = torch.randn(4, *IMAGE)
    if slot == "generator":
        z = inputs.flatten(1)[:, :5]
        given = z[:, :, None, None] if kind == "dcgan" else z
        assert torch.allclose(network(z), expected["layers"](given), atol=1e-6)
    else:
        score = expected["score"](expected["layers"](inputs)).flatten()
        assert torch.allclose(network(inputs).score, score, atol=1e-6)


def test_a_reference_batch_is_kept_with_the_weights():
    network = build("generator", "dcgan", IMAGE, norm="virtual")
    assert isinstance(network.layers, BesideReference)
    assert network.state_dict()["layers.reference"].shape == (64, 5, 1, 1)
