"""A19: gradients through symbols against enumeration and numerical integration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from genctl import registry
from genctl.distributions.categorical import Categorical
from genctl.distributions.relaxed_categorical import RelaxedCategorical
from genctl.errors import ConfigError
from genctl.models.discrete_outputs import Embedding, GumbelSoftmax, Reinforce
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec, Discrimination

THETA = 0.8
P = 1 / (1 + math.exp(-THETA))
SLOPE = P * (1 - P)  # dσ/dθ


class StandIn:
    """An update on one rank."""

    logging, step = True, 1

    def __init__(self, rows=1):
        self.rng, self.batch_size = RandomStream(7, "training", 1), rows

    def mean(self, value):
        return value


def square(y):
    return 3.0 + (y - 0.45) ** 2


def row_gradients(output, f, n, at=THETA):
    """``(n,)`` independent estimates of ∂θ E f(b), b one Bernoulli(σ(θ)) symbol; and the loss."""
    theta = torch.full((n,), at, dtype=torch.float64, requires_grad=True)
    numbers = torch.stack([torch.zeros_like(theta), theta], -1).view(n, 1, 1, 1, 2)
    loss, metrics = output.loss(numbers, lambda seen: f(seen[..., 1]).flatten(), StandIn())
    (gradient,) = torch.autograd.grad(loss, theta)
    return gradient * n, float(loss.detach()), metrics


def standard_error(x):
    return float(x.std()) / math.sqrt(len(x))


N = 20_000
EXACT = (square(1.0) - square(0.0)) * SLOPE
MEAN = P * square(1.0) + (1 - P) * square(0.0)


def variance_of_score_function(b):
    """Var (f − b) ∇ log p for one draw, by enumeration: ∇ log p is 1 − p or −p."""
    second = P * ((square(1.0) - b) * (1 - P)) ** 2 + (1 - P) * ((square(0.0) - b) * -P) ** 2
    return second - EXACT**2


def prepared(baseline, samples):
    output = Reinforce(2, baseline=baseline, samples=samples, decay=0.5)
    output.adapt({"reinforce/cost": torch.tensor(MEAN)}, StandIn())
    return output


@pytest.mark.parametrize(
    ("baseline", "samples", "variance"),
    [
        ("none", 1, variance_of_score_function(0.0)),
        ("none", 2, variance_of_score_function(0.0) / 2),
        ("moving-average", 2, variance_of_score_function(MEAN) / 2),
        # (f(b₁) − f(b₂))(b₁ − b₂)/2 is Δf/2 where the draws differ, which 2p(1−p) of them do.
        (
            "leave-one-out",
            2,
            ((square(1.0) - square(0.0)) / 2) ** 2 * 2 * SLOPE * (1 - 2 * SLOPE),
        ),
    ],
)
def test_reinforce_is_unbiased_and_its_variance_is_as_enumerated(baseline, samples, variance):
    gradients, loss, _ = row_gradients(prepared(baseline, samples), square, N)
    error = standard_error(gradients)
    assert abs(float(gradients.mean()) - EXACT) < 4 * error
    assert float(gradients.var()) == pytest.approx(variance, rel=0.06)
    assert loss == pytest.approx(MEAN, abs=0.01)  # what is logged is the cost


def test_baselines_reduce_the_variance():
    """By more than a hundred here, where the cost is mostly a constant."""
    none, average, others = (
        float(row_gradients(prepared(kind, 2), square, N)[0].var())
        for kind in ("none", "moving-average", "leave-one-out")
    )
    assert average < none / 100
    assert others < none / 100


def test_a_baseline_that_looks_at_its_own_draw_would_be_noticed():
    """The four standard errors can tell: with the mean over all draws the estimate shrinks by ½."""
    output = prepared("none", 2)
    output.baseline_of = lambda cost: cost.mean(0, keepdim=True).expand_as(cost)
    gradients, _, _ = row_gradients(output, square, N)
    assert abs(float(gradients.mean()) - EXACT) > 4 * standard_error(gradients)
    assert float(gradients.mean()) == pytest.approx(EXACT / 2, rel=0.1)


def test_the_moving_average_by_hand():
    output = Reinforce(2, baseline="moving-average", decay=0.5)
    assert float(output.baseline_of(torch.ones(1, 1))) == 0.0
    for cost, expected in ((4.0, 4.0), (1.0, (0.25 * 4 + 0.5 * 1) / 0.75)):
        found = output.adapt({"reinforce/cost": torch.tensor(cost)}, StandIn())
        assert float(found["reinforce/baseline"]) == pytest.approx(expected)
    assert float(output.baseline_of(torch.ones(1, 1))) == pytest.approx(2.0)
    output.adapt({"reinforce/cost": torch.tensor(float("nan"))}, StandIn())  # of a skipped update
    assert float(output.baseline_of(torch.ones(1, 1))) == pytest.approx(2.0)
    assert {"average", "weight"} <= output.state_dict().keys()


# --- the Gumbel-softmax ---------------------------------------------------------------------------
# At θ = 0, where the soft bias has one sign; elsewhere it crosses zero on its way.
EVEN = 0.25
"""dσ/dθ there, and the exact gradient of E b³."""


def cube(y):
    return y**3


def slope_of_cube(y):
    return 3 * y**2


def integrated(temperature, straight_through):
    """Mean of the estimator for f = y³ over u: y = σ(logit(u)/τ), dy/dθ = y(1 − y)/τ."""
    u = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    y = torch.sigmoid(torch.logit(u) / temperature)
    at = (y > 0.5).double() if straight_through else y
    return float((slope_of_cube(at) * y * (1 - y) / temperature).mean())


TEMPERATURES = (2.0, 1.0, 0.5, 0.1)


def relaxed_gradients(temperature, straight_through, n=60_000):
    output = GumbelSoftmax(2, straight_through=straight_through, temperature=temperature)
    return row_gradients(output, cube, n, at=0.0)[0]


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_relaxed_gradients_have_the_integrated_mean(temperature, straight_through):
    gradients = relaxed_gradients(temperature, straight_through)
    expected = integrated(temperature, straight_through)
    assert abs(float(gradients.mean()) - expected) < 4 * standard_error(gradients)
    assert standard_error(gradients) < 0.03 * expected


def test_soft_bias_falls_with_the_temperature_while_the_variance_grows():
    biases = [abs(integrated(t, straight_through=False) - EVEN) for t in TEMPERATURES]
    assert all(hot > 1.5 * cold for hot, cold in itertools.pairwise(biases))
    assert biases[0] > 0.5 * EVEN
    assert biases[-1] < 0.02 * EVEN
    variances = [float(relaxed_gradients(t, straight_through=False).var()) for t in TEMPERATURES]
    assert all(cold > 1.5 * hot for hot, cold in itertools.pairwise(variances))


def test_straight_through_keeps_a_bias():
    """As τ → 0 its mean is σ'(θ)(f'(0) + f'(1))/2: right for squares, half too much for cubes."""
    limit = EVEN * (slope_of_cube(0.0) + slope_of_cube(1.0)) / 2
    gradients = relaxed_gradients(0.1, straight_through=True)
    assert limit == pytest.approx(1.5 * EVEN)
    assert abs(float(gradients.mean()) - limit) < 4 * standard_error(gradients) + 0.01 * limit
    assert abs(float(gradients.mean()) - EVEN) > 8 * standard_error(gradients)


@pytest.mark.parametrize("temperature", [0.2, 3.0])
def test_relaxed_draws_have_exact_categories(temperature, device):
    logits = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64, device=device).expand(30_000, 3)
    soft = RelaxedCategorical(logits, temperature).rsample(RandomStream(3, device=device))
    assert torch.allclose(soft.sum(-1), torch.ones_like(soft[:, 0]))
    drawn = soft.argmax(-1)
    assert torch.equal(drawn, Categorical(logits).sample(RandomStream(3, device=device)))
    counts = torch.bincount(drawn, minlength=3).double()
    expected = torch.softmax(logits[0], 0) * len(logits)
    assert float(((counts - expected).square() / expected).sum()) < 13.8  # 1 in 1000, 2 freedoms
    hard = RelaxedCategorical(logits, temperature).straight_through(RandomStream(3, device=device))
    assert torch.equal(hard, nn.functional.one_hot(drawn, 3).double())


def test_the_temperature_is_a_function_of_the_step():
    output = GumbelSoftmax(2, temperature=2.0, final_temperature=0.5, anneal_steps=100)
    assert [output.temperature(step) for step in (1, 51, 101, 5000)] == [2.0, 1.0, 0.5, 0.5]
    assert not output.state_dict()


# --- embeddings -----------------------------------------------------------------------------------
def test_embeddings_are_orthonormal_and_decode_to_their_symbols():
    torch.manual_seed(0)
    output = Embedding(3, embedding_dim=5).double()
    assert torch.allclose(output.codes @ output.codes.T, torch.eye(3).double(), atol=1e-6)
    symbols = RandomStream(0).integers(6, 1, 4, 4, high=3)
    assert torch.equal(output.mode(output.codes[symbols]), symbols)
    assert torch.equal(output.mode(0.1 * output.codes[symbols]), symbols)


def test_the_blur_moves_as_many_embeddings_over_the_border_as_it_should():
    """Two codes are √2 apart: P(decoded wrongly) = Φ(−(√2/2)/noise)."""
    output = Embedding(2, embedding_dim=2, noise=0.5)
    symbols = RandomStream(0).integers(20_000, 1, 1, 1, high=2)
    wrong = (output.mode(output.real(symbols, RandomStream(1))) != symbols).double()
    expected = 0.5 * math.erfc(math.sqrt(0.5) / 0.5 / math.sqrt(2))
    assert abs(float(wrong.mean()) - expected) < 4 * standard_error(wrong)


def test_the_embeddings_gradient_is_the_judges():
    output = Embedding(2, embedding_dim=2, noise=0.3)
    numbers = torch.randn(3, 1, 1, 1, 2, requires_grad=True)
    slope = torch.randn(3, 1, 1, 1, 2)
    loss, _ = output.loss(numbers, lambda seen: (seen * slope).flatten(1).sum(1), StandIn())
    (gradient,) = torch.autograd.grad(loss, numbers)
    assert torch.allclose(gradient, slope / 3)


# --- the model ------------------------------------------------------------------------------------
COLOUR = DataSpec("image", (3, 8, 8), levels=2)


def build(spec, objective="non-saturating", **output):
    node = {
        "kind": "discrete-gan",
        "latent_dim": 3,
        "output": {"kind": "reinforce", **output},
        "generator": {"kind": "mlp", "width": 8},
        "discriminator": {"kind": "mlp", "width": 8},
        "objective": objective,
    }
    resolved, problems = registry.resolve("model", node, "model")
    assert problems == []
    torch.manual_seed(0)
    return registry.factory("model", resolved)(spec)


class Recorder(nn.Module):
    def forward(self, x):
        self.seen = [*getattr(self, "seen", []), x]
        return Discrimination(x.flatten(1).sum(1))


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("kind", ["reinforce", "gumbel-softmax", "embedding"])
def test_samples_are_symbols(kind, levels):
    model = build(replace(COLOUR, levels=levels), kind=kind)
    drawn = model.sample(20, RandomStream(0))
    values = torch.linspace(-1, 1, levels)
    assert torch.equal(drawn.unique(), values)
    assert torch.equal(model.decode(model.sample_latent(20, RandomStream(0))).unique(), values)


@pytest.mark.parametrize("kind", ["reinforce", "gumbel-softmax"])
def test_the_discriminator_sees_one_hot_planes_side_by_side(kind):
    """Channel c, symbol k is plane c·K + k, for real and generated examples alike."""
    model = build(COLOUR, kind=kind)
    model.discriminator = Recorder()
    x = RandomStream(0).integers(4, 3, 8, 8, high=2).float() * 2 - 1
    model.discriminator_loss(Batch(x), StandIn(4))
    for seen in model.discriminator.seen:
        assert seen.shape == (4, 6, 8, 8)
        assert torch.equal(seen[:, 0::2] + seen[:, 1::2], torch.ones(4, 3, 8, 8))
    assert torch.equal(model.discriminator.seen[0][:, 1::2], (x + 1) / 2)
    z = torch.zeros(1, 3)
    assert torch.equal(model.numbers(z)[0, 2, 3, 4, 1], model.generator(z)[0, 2 * 2 + 1, 3, 4])


def test_symbols_have_the_generators_probabilities():
    model = build(COLOUR, samples=2)
    z = RandomStream(0).normal(1, 3)
    p = torch.softmax(model.numbers(z), -1)[0, ..., 1]
    numbers = model.numbers(z).expand(4000, -1, -1, -1, -1)
    rate = model.output.draw(numbers, RandomStream(1)).double().mean(0)
    assert ((rate - p).abs() < 5 * (p * (1 - p) / 4000).sqrt()).all()


@pytest.mark.parametrize(
    ("spec", "output", "problem", "remedy"),
    [
        (COLOUR, {"objective": "boundary-equilibrium"}, "have none", "non-saturating"),
        (COLOUR, {"objective": "energy-margin"}, "an energy", "autoencoder"),
        (replace(COLOUR, levels=256), {}, "256 levels", "--set data.binarise=threshold"),
        (DataSpec("points", (2,), levels=0), {}, "points", "adversarial"),
        (COLOUR, {"samples": 1}, "no others", "model.output.samples=8"),
        (
            replace(COLOUR, levels=5),
            {"kind": "embedding"},
            "do not fit",
            "--set model.output.embedding_dim=5",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(spec, output, problem, remedy):
    with pytest.raises(ConfigError) as caught:
        build(spec, **output)
    assert problem in caught.value.reason
    assert remedy in caught.value.remedy
