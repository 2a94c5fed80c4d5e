"""A16: codes, the bound on their mutual information, and who follows it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from genctl import registry
from genctl.contracts import capabilities
from genctl.distributions.codes import Codes
from genctl.errors import CapabilityError, ConfigError
from genctl.models.infogan import InfoGANModel
from genctl.networks.layers.batch_norm import BatchNorm2d
from genctl.objectives.mutual_information import information_bound
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec

SPEC = DataSpec("image", (1, 8, 8))
LARGER = DataSpec("image", (1, 16, 16))
"""Where the discriminator has a batch norm."""


def build(spec=SPEC, **keywords):
    node = {
        "kind": "infogan",
        "latent_dim": 3,
        "generator": {"kind": "dcgan", "width": 4},
        "discriminator": {"kind": "dcgan", "width": 4},
        "recogniser": {"width": 8},
        **keywords,
    }
    node, problems = registry.resolve("model", node, "model")
    assert not problems
    torch.manual_seed(0)
    model = registry.factory("model", node)(spec)
    assert isinstance(model, InfoGANModel)
    return model


# --- the bound ----------------------------------------------------------------------------------
def entropy(p):
    return -sum(q * math.log(q) for q in p if q)


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_the_bound_is_the_information_of_a_channel_with_the_true_posterior(wrong):
    """x is c, or in ``wrong`` of 8 cases the other of two: I = log 2 − H(wrong/8), to the last bit."""
    p = wrong / 8
    codes = torch.tensor([0] * 8 + [1] * 8)
    x = torch.tensor([1] * wrong + [0] * (8 - wrong) + [0] * wrong + [1] * (8 - wrong))
    posterior = torch.tensor([[1 - p, p], [p, 1 - p]], dtype=torch.float64)
    exact = math.log(2) - entropy([p, 1 - p])
    found = information_bound(posterior[x, codes].log(), math.log(2))
    assert float(found) == pytest.approx(exact, abs=1e-12)
    other = torch.tensor([[0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
    gap = 0.5 * (posterior * (posterior / other).log()).sum()  # both x are equally probable
    looser = information_bound(other[x, codes].log(), math.log(2))
    assert float(looser) == pytest.approx(exact - float(gap), abs=1e-12)


def test_the_bound_through_codes_reaches_their_entropy():
    """A posterior that is certain and right leaves nothing unknown: H(c) = log 3 + log 4."""
    codes = Codes([3, 4], 0)
    c = codes.sample(200, RandomStream(0, "c"))
    discrete, _ = codes.log_posterior(c, 60.0 * c)
    assert float(information_bound(discrete, codes.entropy[0])) == pytest.approx(math.log(12))
    nothing, _ = codes.log_posterior(c, torch.zeros_like(c))
    assert float(information_bound(nothing, codes.entropy[0])) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("learned", [False, True])
def test_log_posterior_by_hand(learned):
    codes = Codes([3, 2], 2, learned_variance=learned)
    c = torch.tensor([[0, 1, 0, 1, 0, 0.3, -0.9], [1, 0, 0, 0, 1, -0.2, 0.1]])
    found = torch.linspace(-1, 1, 2 * codes.outputs).view(2, -1)
    assert codes.outputs == (9 if learned else 7)
    std = found[:, 7:].exp() if learned else torch.ones(2, 2)
    discrete, continuous = codes.log_posterior(c, found)
    chosen = [found[:, :3].log_softmax(1), found[:, 3:5].log_softmax(1)]
    expected = chosen[0][[0, 1], [1, 0]] + chosen[1][[0, 1], [0, 1]]
    torch.testing.assert_close(discrete, expected)
    torch.testing.assert_close(continuous, Normal(found[:, 5:7], std).log_prob(c[:, 5:]).sum(1))


def test_codes_are_what_their_entropy_says():
    codes = Codes([4], 1)
    c = codes.sample(4000, RandomStream(0, "c"))
    assert torch.equal(c[:, :4].sum(1), torch.ones(4000))
    assert (c[:, :4].mean(0) - 0.25).abs().max() < 0.03
    assert c[:, 4].abs().max() <= 1
    assert float(c[:, 4].var()) == pytest.approx(1 / 3, abs=0.02)
    assert codes.entropy == (math.log(4), math.log(2))


# --- the game -----------------------------------------------------------------------------------
class OneRank:
    """Stands in for the update: evaluates each loss once."""

    logging = False
    batch_size = 8

    def __init__(self):
        self.rng, self.losses, self.metrics = RandomStream(0, "step"), {}, {}

    def __call__(self, player, loss_fn, batch=None):
        loss, metrics = loss_fn() if batch is None else loss_fn(batch)
        self.losses[player], self.metrics[player] = loss, metrics
        return {f"loss/{player}": loss}


def losses(**keywords):
    model = build(**keywords)
    update = OneRank()
    model.training_step(iter([Batch(torch.zeros(8, 1, 8, 8))]), update)
    return model, update


def test_information_is_in_both_losses_with_its_weights():
    """Loss = V − λ₁ L_I(categorical) − λ₂ L_I(continuous), for D and Q as for G."""
    _, plain = losses(categorical_weight=0.0, continuous_weight=0.0)
    _, weighted = losses(categorical_weight=2.0, continuous_weight=0.5)
    for player in ("discriminator", "generator"):
        found = plain.metrics[player]
        bound = 2.0 * found["information/categorical"] + 0.5 * found["information/continuous"]
        torch.testing.assert_close(weighted.losses[player], plain.losses[player] - bound)


def test_the_generator_the_discriminator_and_q_all_follow_the_information():
    model, _ = losses()
    z = model.sample_latent(8, RandomStream(1, "z"))
    for network in (model.generator, model.discriminator.layers, model.recogniser):
        parameters = list(network.parameters())
        total, before = model.information(model.discriminator(model.generator(z)), z)
        gradients = torch.autograd.grad(total, parameters)
        assert any(g.abs().max() > 0 for g in gradients)
        kept = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter += 1e-3 * gradient
            after, _ = model.information(model.discriminator(model.generator(z)), z)
            assert after > total, "ascent of the bound raises it"
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)
        assert before["information/categorical"] <= math.log(10)


def test_building_leaves_no_trace_in_the_discriminator():
    """The number of features is found by looking once; statistics do not move."""
    model = build(LARGER)
    norms = [m for m in model.discriminator.modules() if isinstance(m, BatchNorm2d)]
    assert norms
    assert all(int(m.num_batches_tracked) == 0 for m in norms)
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("discriminator", ["dcgan", "conv-critic"])
def test_real_and_generated_examples_apart_or_in_one_pass(discriminator):
    """Without a layer that couples examples, one pass says what two do."""
    model = build(LARGER, discriminator={"kind": discriminator, "width": 4})
    assert model.apart == (discriminator == "dcgan")
    x, fake = torch.rand(2, 4, 1, 16, 16)
    real, seen = model._seen_both(x, fake)
    for found, alone in ((real, model.discriminator(x)), (seen, model.discriminator(fake))):
        torch.testing.assert_close(found.score, alone.score)
        torch.testing.assert_close(found.features, alone.features)


def test_a_sweep_moves_one_code_and_nothing_else():
    model = build(categorical=[4, 2], continuous=2)
    swept = model.sweep_codes(3, 5, RandomStream(0, "sweep"))
    assert swept.shape == (4, 3, 5, 3 + 8)
    places = [slice(3, 7), slice(7, 9), slice(9, 10), slice(10, 11)]
    for code, place in zip(swept, places, strict=True):
        still = torch.ones(11, dtype=torch.bool)
        still[place] = False
        assert torch.equal(code[..., still], code[:, :1, still].expand(-1, 5, -1))
    assert swept[0, 0, :, 3:7].argmax(1).tolist() == [0, 1, 2, 3, 0]
    assert swept[1, 2, :, 7:9].argmax(1).tolist() == [0, 1, 0, 1, 0]
    assert swept[2, 1, :, 9].tolist() == [-2, -1, 0, 1, 2]
    assert swept[3, :, 0, 3:7].argmax(1).tolist() == [0, 1, 2]
    assert not torch.equal(swept[0, 0, 0, :3], swept[0, 1, 0, :3])
    assert model.decode(swept[0, 0]).shape == (5, 1, 8, 8)


def test_clusters_are_read_by_q():
    model = build(categorical=[4], continuous=1).eval()
    x = torch.rand(5, 1, 8, 8)
    assert model.cluster(x).shape == (5, 4)
    found = model.recogniser(model.discriminator(x).features)
    assert torch.equal(model.cluster(x), found[:, :4])
    with pytest.raises(CapabilityError, match="no categorical code"):
        build(categorical=[], continuous=1).cluster(x)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="no code"):
        build(categorical=[], continuous=0)
    with pytest.raises(ConfigError, match="logits"):
        build(objective={"kind": "wasserstein"})
    with pytest.raises(ConfigError, match="energy"):
        build(discriminator={"kind": "autoencoder", "width": 4})


def test_capabilities_and_players():
    model = build()
    assert capabilities(model) == [
        "sample",
        "interpolate",
        "cluster",
        "sweep_codes",
        "discriminator_features",
        "discriminator_score",
    ]
    owned = [
        p
        for names in model.players.values()
        for n in names
        for p in model.get_submodule(n).parameters()
    ]
    assert {id(p) for p in owned} == {id(p) for p in model.parameters()}
    assert isinstance(model.recogniser, nn.Module)
