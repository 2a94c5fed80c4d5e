"""A3, A5, A9 and A10: objectives by hand, and what their best discriminators make of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genctl.errors import ConfigError
from genctl.objectives.adversarial import (
    EnergyMargin,
    Hinge,
    LeastSquares,
    MaximumLikelihood,
    NonSaturating,
)

SCORES = torch.tensor([-2.0, 0.0, 0.5, 1.5], dtype=torch.float64)


@pytest.fixture
def scores(device):
    return SCORES.to(device)


def test_least_squares_values(scores):
    game = LeastSquares()
    assert game.real(scores).tolist() == [9.0, 1.0, 0.25, 0.25]
    assert game.fake(scores).tolist() == [4.0, 0.0, 0.25, 2.25]
    assert game.generator(scores).tolist() == [9.0, 1.0, 0.25, 0.25]
    half = torch.tensor([0.5])
    assert float(game.real(half) + game.fake(half)) == 0.5, "its equilibrium, as the sum"
    free = LeastSquares(fake_target=-1.0, real_target=1.0, generator_target=0.0)
    assert free.real(scores).tolist() == [9.0, 1.0, 0.25, 0.25]
    assert free.fake(scores).tolist() == [1.0, 1.0, 2.25, 6.25]
    assert free.generator(scores).tolist() == [4.0, 0.0, 0.25, 2.25]


def test_least_squares_with_the_best_discriminator_is_pearsons_divergence():
    """(−1, 1, 0): E_x(D−c)² + E_G(D−c)² = χ²(p_d + p_g ‖ 2p_g), arXiv:1611.04076, eq. 8."""
    game = LeastSquares(fake_target=-1.0, real_target=1.0, generator_target=0.0)
    p, q = torch.rand(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p, q = p / p.sum(), q / q.sum()
    best = ((p - q) / (p + q)).requires_grad_()
    loss = (p * game.real(best) + q * game.fake(best)).sum()
    (slope,) = torch.autograd.grad(loss, best)
    assert slope.abs().max() < 1e-15, "no other discriminator is better"
    value = ((p + q) * game.generator(best)).sum()
    pearson = ((2 * q - (p + q)).square() / (p + q)).sum()
    assert float(value) == pytest.approx(float(pearson), rel=1e-12)


def test_equal_targets_are_refused():
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        LeastSquares(fake_target=1.0)


def test_hinge_values_and_signs(scores):
    game = Hinge()
    assert game.real(scores).tolist() == [3.0, 1.0, 0.5, 0.0]
    assert game.fake(scores).tolist() == [0.0, 1.0, 1.5, 2.5]
    assert game.generator(scores).tolist() == [2.0, 0.0, -0.5, -1.5]
    zero = torch.zeros(1)
    assert float(game.real(zero) + game.fake(zero)) == 2.0


def test_energy_margin_on_a_batch_by_hand(device):
    """Beyond the margin a generated example is left alone; real ones go to zero."""
    game, energies = EnergyMargin(margin=2.0), torch.tensor([0.0, 0.5, 2.0, 7.0]).to(device)
    assert game.real(energies).tolist() == [0.0, 0.5, 2.0, 7.0]
    assert game.fake(energies).tolist() == [2.0, 1.5, 0.0, 0.0]
    assert game.generator(energies).tolist() == [0.0, 0.5, 2.0, 7.0]
    moving = energies.clone().requires_grad_()
    (slope,) = torch.autograd.grad(game.fake(moving).sum(), moving)
    assert slope.tolist() == [-1.0, -1.0, 0.0, 0.0]


def test_maximum_likelihood_shares_the_discriminator_and_its_generator_is_exponential(scores):
    game = MaximumLikelihood()
    assert torch.equal(game.real(scores), NonSaturating().real(scores))
    assert torch.equal(game.fake(scores), NonSaturating().fake(scores))
    assert torch.allclose(game.generator(scores), -scores.exp())
    assert float(game.generator(torch.zeros(1))) == -1.0


@pytest.mark.parametrize(("mean", "scale"), [(0.7, 1.2), (-0.3, 0.9), (1.5, 1.6)])
def test_maximum_likelihood_descends_the_divergence_from_the_data(mean, scale):
    """The best D held fixed, ∇ of −E exp(D(G(z))) is ∇KL(N(0, 1) ‖ N(μ, σ²)), for μ and for σ."""
    nodes, weights = np.polynomial.hermite.hermgauss(120)
    z = torch.tensor(nodes * math.sqrt(2))
    weights = torch.tensor(weights / math.sqrt(math.pi))
    data = torch.distributions.Normal(0.0, torch.ones((), dtype=torch.float64))
    model = torch.distributions.Normal(mean, torch.tensor(scale, dtype=torch.float64))
    parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (mean, scale)]
    x = parameters[0] + parameters[1] * z
    score = data.log_prob(x) - model.log_prob(x)
    loss = (weights * MaximumLikelihood().generator(score)).sum()
    found = torch.autograd.grad(loss, parameters)
    expected = (mean / scale**2, 1 / scale - (1 + mean**2) / scale**3)
    assert [float(g) for g in found] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "game", [MaximumLikelihood(), LeastSquares(), Hinge(), NonSaturating()], ids=lambda g: type(g)
)
def test_gradient_signs(game, device):
    """The discriminator raises real scores and lowers generated ones; the generator raises its."""
    for loss, sign in ((game.real, -1), (game.fake, 1), (game.generator, -1)):
        score = torch.tensor([0.3], device=device, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(score).sum(), score)
        assert math.copysign(1, float(slope)) == sign
