"""A6 and A7: the critic's objective and the penalty on its slope, against closed forms."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from genctl.errors import ConfigError
from genctl.networks.layers.input_gradient import input_gradient
from genctl.objectives.adversarial import Wasserstein
from genctl.objectives.penalties import DraganPenalty, GradientPenalty, interpolate
from genctl.randomness import RandomStream

SHAPES = [(1, 4, 4), (3, 4, 4), (5,)]


def rng(**place):
    return RandomStream(0, "penalty", **place)


class Moves:
    """What a penalty is given of an update, on one rank."""

    def __init__(self):
        self.rng = rng()

    def mean(self, value):
        return value


def slope_of(score):
    return functools.partial(input_gradient, score)


def pair(n, shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, n, *shape, generator=generator, dtype=torch.float64).unbind()


def test_wasserstein_values():
    """−f(x) + f(G(z)) for the critic, −f(G(z)) for the generator: a zero-sum game without logs."""
    score = torch.tensor([-2.0, 0.0, 1.5])
    game = Wasserstein()
    assert torch.equal(game.real(score), -score)
    assert torch.equal(game.fake(score), score)
    assert torch.equal(game.generator(score), -score)
    assert game.output == "critic"


@pytest.mark.parametrize("kind", [GradientPenalty, DraganPenalty])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [1.0, 0.0])
def test_of_a_linear_critic_it_is_the_closed_form(shape, target, kind):
    """F(x) = ⟨w, x⟩ has the gradient w everywhere, and its norm is over all variables."""
    real, fake = pair(6, shape)
    w = torch.linspace(-1, 2, real[0].numel(), dtype=torch.float64).view(shape)
    penalty = kind(target=target)
    found = penalty(slope_of(lambda x: (w * x).flatten(1).sum(1)), real, fake, Moves())
    expected = (float(w.square().sum()) ** 0.5 - target) ** 2
    assert found.tolist() == pytest.approx([expected] * 6, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_example_has_a_norm_of_its_own(shape):
    """F(x) = ½‖x‖² has the gradient x: two examples of lengths 3 and 0.5 give 4 and 0.25."""
    x = torch.ones(2, *shape, dtype=torch.float64) / real_size(shape) ** 0.5
    x = x * torch.tensor([3.0, 0.5], dtype=torch.float64).view(2, *[1] * len(shape))
    half_square = slope_of(lambda x: 0.5 * x.square().flatten(1).sum(1))
    assert GradientPenalty()(half_square, x, x, Moves()).tolist() == pytest.approx([4.0, 0.25])


def real_size(shape):
    return torch.zeros(shape).numel()


@pytest.mark.parametrize("shape", SHAPES)
def test_one_epsilon_for_each_example(shape):
    """Between ones (real) and zeros (generated) the point is ε itself."""
    n = 4000
    points = interpolate(torch.ones(n, *shape), torch.zeros(n, *shape), rng()).flatten(1)
    assert torch.equal(points, points[:, :1].expand_as(points)), "one value over all pixels"
    epsilon = points[:, 0]
    assert len(epsilon.unique()) > 3990, "another value for every example"
    assert epsilon.min() >= 0
    assert epsilon.max() <= 1
    assert float(epsilon.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(epsilon.var()) == pytest.approx(1 / 12, abs=0.005)


def test_dragan_looks_around_real_examples_only():
    """F(x) = ½‖x‖² shows where it looked: x̂ − x = α·½·std(X)·u, α of the example, u of the pixel."""
    real = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0)).double() * 3
    seen = []

    def slope(x):
        seen.append(x)
        return x

    DraganPenalty()(slope, real, torch.full_like(real, torch.nan), Moves())
    moved = (seen[0] - real) / (0.5 * real.std(correction=0))
    assert moved.min() >= 0
    assert moved.max() <= 1
    # E[αu] = ¼; α is shared within an example: E[αu·αu'] = E[α²]·E[u]² = 1/12.
    assert float(moved.mean()) == pytest.approx(0.25, abs=0.01)
    assert float((moved[:, 0] * moved[:, 1]).mean()) == pytest.approx(1 / 12, abs=0.006)
    assert float(moved.square().mean()) == pytest.approx(1 / 9, abs=0.006)


def test_two_ranks_draw_the_epsilons_that_one_would():
    real, fake = pair(12, (3,))
    whole = interpolate(real, fake, rng())
    ranks = [
        interpolate(real[r * 6 : r * 6 + 6], fake[r * 6 : r * 6 + 6], rng(rank=r)) for r in (0, 1)
    ]
    assert torch.equal(torch.cat(ranks), whole)


def test_a_flat_critic_gives_a_finite_gradient():
    """The norm's derivative at zero must not be 0/0."""
    layer = nn.Linear(3, 1)
    nn.init.zeros_(layer.weight)
    real, fake = (x.float() for x in pair(4, (3,)))
    loss = GradientPenalty()(slope_of(lambda x: layer(x).squeeze(1)), real, fake, Moves()).mean()
    (gradient,) = torch.autograd.grad(loss, layer.weight)
    assert float(loss.detach()) == 1.0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6, 6), (5,)])
def test_the_weights_gradient_agrees_with_finite_differences(shape):
    """Double backward reaches every weight of a critic whose slope depends on them all."""
    torch.manual_seed(3)
    if len(shape) == 3:
        layers = [nn.Conv2d(shape[0], 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 1)]
    else:
        layers = [nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)]
    critic = nn.Sequential(*layers).double()
    real, fake = pair(3, shape)

    def loss():
        slope = slope_of(lambda x: critic(x).squeeze(1))
        return GradientPenalty(target=0.7)(slope, real, fake, Moves()).mean()

    weights = list(critic.parameters())[:-1]  # the last bias moves no slope
    gradients = torch.autograd.grad(loss(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        direction = torch.randn_like(weight)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight.add_(direction, alpha=step)
            values.append(float(loss().detach()))
            with torch.no_grad():
                weight.sub_(direction, alpha=step)
        numeric = (values[0] - values[1]) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-6, abs=1e-9)
        assert gradient.abs().max() > 1e-6


def test_low_precision_slopes_are_measured_in_float32():
    real, fake = (x.float() for x in pair(4, (1000,)))
    found = GradientPenalty()(lambda x: torch.full_like(x, 0.1).bfloat16(), real, fake, Moves())
    norm = float(torch.tensor(0.1).bfloat16()) * 1000**0.5
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([(norm - 1) ** 2] * 4, rel=1e-5)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.SyncBatchNorm(4)])
def test_batch_norm_is_refused_with_the_reason_and_a_remedy(norm):
    critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(norm, nn.ReLU()))
    with pytest.raises(ConfigError) as caught:
        GradientPenalty().check(critic)
    assert "batch norm (layer 1.0)" in caught.value.reason
    assert "couple" in caught.value.reason
    assert "conv-critic" in caught.value.remedy


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 4), nn.InstanceNorm2d(4), nn.Identity()])
def test_norms_within_an_example_are_allowed(norm):
    GradientPenalty().check(nn.Sequential(nn.Conv2d(1, 4, 3), norm))
