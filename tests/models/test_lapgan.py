"""A18: the pyramid is invertible, levels are independent games, sampling undoes the analysis."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from genctl import registry
from genctl.config.load import load_config
from genctl.errors import ConfigError
from genctl.networks.layers.laplacian_pyramid import (
    collapse,
    downsample,
    gaussian_pyramid,
    laplacian_pyramid,
    upsample,
)
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec, Discrimination

PYRAMIDS = [(7, 14, 28), (8, 14, 28), (8, 16, 32), (8, 16, 32, 64), (2, 5)]


def squares(edges):
    return [(edge, edge) for edge in edges]


@pytest.mark.parametrize("edges", PYRAMIDS)
def test_the_pyramid_is_invertible(edges, device):
    x = RandomStream(0, "x", device=device).uniform(3, 3, edges[-1], edges[-1]) * 2 - 1
    coefficients = laplacian_pyramid(x, squares(edges))
    assert [h.shape[2] for h in coefficients] == list(edges)
    assert (collapse(coefficients) - x).abs().max() < 1e-6
    # The coefficients carry the picture: without the finest, it is another one.
    without = [*coefficients[:-1], torch.zeros_like(coefficients[-1])]
    assert (collapse(without) - x).abs().max() > 0.1


@pytest.mark.parametrize("edges", PYRAMIDS)
def test_constant_images_have_no_coefficients(edges):
    x = torch.full((1, 2, edges[-1], edges[-1]), -0.7)
    coarsest, *finer = laplacian_pyramid(x, squares(edges))
    assert torch.allclose(coarsest, torch.full_like(coarsest, -0.7), atol=1e-6)
    assert all(h.abs().max() < 1e-6 for h in finer)


def test_resampling_by_hand():
    """Inside the image d weighs 1, 3, 3, 1 eighths, and u 3 and 1 quarters."""
    impulse = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    impulse[0, 0, 3, 4] = 64.0  # of pixels 1 2 [3] 4, and of 3 [4] 5 6
    small = downsample(impulse, (4, 4))[0, 0]
    rows, columns = torch.tensor([0, 3, 1, 0]), torch.tensor([0, 1, 3, 0])
    assert torch.allclose(small, (rows[:, None] * columns[None, :]).double())
    ramp = torch.arange(4, dtype=torch.float64).expand(1, 1, 4, 4)
    wide = upsample(ramp, (8, 8))[0, 0, 0]
    assert torch.allclose(wide[1:7], torch.arange(0.25, 3.0, 0.5, dtype=torch.float64))


def build(spec, **keywords):
    small = {"width": 8}
    node = {
        "kind": "lapgan",
        "latent_dim": 3,
        "generator": {"kind": "mlp", **small},
        "discriminator": {"kind": "mlp", **small},
        "refiner": {"kind": "lapgan", **small, "kernel": 3},
        "judge": {"kind": "lapgan", **small},
        **keywords,
    }
    resolved, problems = registry.resolve("model", node, "model")
    assert problems == []
    torch.manual_seed(0)
    return registry.factory("model", resolved)(spec)


GREY = DataSpec("image", (1, 28, 28), 10)


class StandIn:
    """An update that only keeps the facts a loss reads."""

    logging = True

    def __init__(self, rows, **address):
        self.rng, self.batch_size = RandomStream(0, "training", 1, **address), rows


def batch_of(n, labels=None):
    x = RandomStream(1, "x").uniform(n, 1, 28, 28) * 2 - 1
    return Batch(x, labels)


@pytest.mark.parametrize("sizes", [None, [8, 14, 28]])
def test_levels_are_independent_games(sizes):
    """A level's gradient is that of its own loss over the number of levels, and nobody else's."""
    model = build(GREY, sizes=sizes)
    assert model.sizes == squares(sizes or (7, 14, 28))
    for player in ("discriminator", "generator"):
        loss_fn = getattr(model, f"{player}_loss")
        loss, metrics = loss_fn(batch_of(4), StandIn(4))
        keys = [f"lapgan/{player}-{edge}" for edge, _ in model.sizes]
        assert torch.allclose(loss, sum(metrics[k] for k in keys) / 3)
        networks = getattr(model, f"{player}s")
        joint = torch.autograd.grad(loss, list(networks.parameters()))
        found, by_level = [], []
        for k, key in enumerate(keys):
            alone = loss_fn(batch_of(4), StandIn(4))[1][key]
            everyone = torch.autograd.grad(alone, list(networks.parameters()), allow_unused=True)
            own = {id(p) for p in networks[k].parameters()}
            for parameter, gradient in zip(networks.parameters(), everyone, strict=True):
                assert (gradient is not None) == (id(parameter) in own)
            by_level.append([g for g in everyone if g is not None])
            found += by_level[-1]
        for ours, alone in zip(joint, found, strict=True):
            assert torch.allclose(ours, alone / 3, rtol=1e-4, atol=1e-8)
        assert all(max(g.abs().max() for g in grads) > 0 for grads in by_level)


class Recorder(nn.Module):
    """A discriminator that keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(x.detach())
        return Discrimination(x.flatten(1).mean(1))


class Constant(nn.Module):
    """A generator that gives what it was made with, and keeps its input."""

    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, x):
        self.given = x
        return self.out


def test_discriminators_see_the_low_pass_image_with_real_or_drawn_coefficients():
    """Both with the l of the real image; the refiner is given l and a plane of noise."""
    model = build(GREY)
    batch = batch_of(2)
    images, h = gaussian_pyramid(batch.x, model.sizes), laplacian_pyramid(batch.x, model.sizes)
    drawn = [0.1 * torch.randn_like(x) for x in h]
    model.discriminators = nn.ModuleList(Recorder() for _ in h)
    model.generators = nn.ModuleList(Constant(x) for x in drawn)
    model.discriminator_loss(batch, StandIn(2))
    for k, judge in enumerate(model.discriminators):
        low = upsample(images[k - 1], model.sizes[k]) if k else torch.zeros_like(h[0])
        real, fake = judge.shown
        assert torch.allclose(real, low + h[k], atol=1e-6)
        assert torch.allclose(fake, low + drawn[k], atol=1e-6)
        if k:
            seen = model.generators[k].given
            assert torch.allclose(seen[:, :1], low, atol=1e-6)
            assert 0.8 < float(seen[:, 1:].std()) < 1.2


def test_sampling_with_the_true_coefficients_gives_the_image():
    """Figure 1: generators that know the pyramid of an image draw that image."""
    model = build(GREY, sizes=[8, 14, 28])
    x = batch_of(5).x
    model.generators = nn.ModuleList(Constant(h) for h in laplacian_pyramid(x, model.sizes))
    assert (model.sample(5, RandomStream(0)) - x).abs().max() < 1e-6
    assert (model.decode(model.sample_latent(5, RandomStream(0))) - x).abs().max() < 1e-6


def test_labels_reach_every_network():
    model = build(GREY, conditional=True)
    rng = RandomStream(0, "sample")
    zeros, ones = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    assert not torch.equal(model.sample(4, rng.fork(), zeros), model.sample(4, rng.fork(), ones))
    in_turn = model.sample(4, rng.fork())
    assert torch.equal(in_turn, model.sample(4, rng.fork(), torch.arange(4)))
    assert torch.equal(in_turn, model.decode(model.sample_latent(4, rng.fork())))
    for labels in (zeros, ones):
        metrics = model.generator_loss(batch_of(4, labels), StandIn(4))[1]
        if labels is zeros:
            before = metrics
    assert all(not torch.equal(before[key], metrics[key]) for key in before)


@pytest.mark.parametrize(
    ("spec", "keywords", "problem", "remedy"),
    [
        (GREY, {"sizes": [8, 16, 32]}, "should rise", "--set data.size=32"),
        (GREY, {"sizes": [14, 8, 28]}, "should rise", "--set"),
        (GREY, {"sizes": [28]}, "should rise", "--set"),
        (GREY, {"levels": 9}, "too many", "--set model.levels=4"),
        (DataSpec("points", (2,), levels=0), {}, "no pyramid", "adversarial"),
        (DataSpec("image", (3, 32, 32)), {"conditional": True}, "no labels", "sub-folders"),
        (GREY, {"objective": "boundary-equilibrium"}, "every level", "non-saturating"),
        (GREY, {"objective": "energy-margin"}, "an energy", "autoencoder"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(spec, keywords, problem, remedy):
    with pytest.raises(ConfigError) as caught:
        build(spec, **keywords)
    assert problem in caught.value.reason
    assert remedy in caught.value.remedy


def test_the_remedies_work():
    build(GREY, levels=4)
    build(dataclasses.replace(GREY, shape=(1, 32, 32)), sizes=[8, 16, 32])


def test_a_clip_is_the_only_thing_that_couples_levels():
    """The preset has none."""
    assert load_config("lapgan").train.clip is None
    assert load_config("lapgan").optim["generator"]["kind"] == "adam"
