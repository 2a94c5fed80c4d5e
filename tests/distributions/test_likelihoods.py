"""Observation models: exact where they say exact, a bound where they say bound."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from genctl import registry
from genctl.distributions.likelihoods import GaussianLikelihood, LaplaceLikelihood
from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.types import DataSpec

GREY = DataSpec("image", (1, 1, 1), levels=16)
POINTS = DataSpec("points", (2,), levels=0)
KINDS = registry.names("likelihood")


def make(name, spec):
    return registry.factory("likelihood", registry.resolve("likelihood", name, "l")[0])(spec)


def test_all_likelihoods_are_found():
    assert {"bernoulli", "gaussian", "laplace", "discretised-logistic"} <= set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_of_all_levels_sum_to_at_most_one(name):
    levels = 2 if name == "bernoulli" else 16
    model = make(name, DataSpec("image", (1, 1, 1), levels=levels)).double()
    x = (2.0 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1.0).view(-1, 1, 1, 1)
    total = model.log_prob(torch.full_like(x, 0.07), x).exp().sum().item()
    exact = name in ("bernoulli", "discretised-logistic")
    assert total == pytest.approx(1.0, abs=1e-9) if exact else 0.9 < total < 1.0


@pytest.mark.parametrize(
    ("kind", "density"),
    [(GaussianLikelihood, scipy.stats.norm), (LaplaceLikelihood, scipy.stats.laplace)],
)
@pytest.mark.parametrize("output", [-0.31, 0.2, 0.2001, 0.9])
@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_dequantised_density_is_jensens_integral(kind, density, output, scale):
    x, width = 0.2, 2.0 / 15.0
    reference = density(output, scale)
    expected = (
        scipy.integrate.quad(
            lambda u: reference.logpdf(x + u),
            -width / 2,
            width / 2,
            points=[min(max(output - x, -width / 2), width / 2)],
        )[0]
        / width
    )
    model = kind(GREY, scale=scale).double()
    given = torch.tensor(output, dtype=torch.float64).view(1, 1, 1, 1)
    found = model.log_prob(given, torch.full_like(given, x)).item()
    assert found == pytest.approx(expected + np.log(width), rel=1e-6)
    # By symmetry in the upper tail, where scipy keeps small numbers apart.
    far, tail = abs(x - output), density(0.0, scale).sf
    mass = tail(far - width / 2) - tail(far + width / 2)
    assert found <= np.log(mass) + 1e-9


@pytest.mark.parametrize(
    ("kind", "density"),
    [(GaussianLikelihood, scipy.stats.norm), (LaplaceLikelihood, scipy.stats.laplace)],
)
def test_points_have_a_density_and_draws_of_it(kind, density):
    model = kind(POINTS, scale=0.5)
    output, x = torch.tensor([[5.0, -7.0]]), torch.tensor([[5.5, -6.0]])
    expected = density(output, 0.5).logpdf(x).sum()
    assert model.log_prob(output, x).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(model.mean(output), output)
    draws = model.sample(output.expand(20_000, 2), RandomStream(0, "x"))
    for axis, centre in enumerate((5.0, -7.0)):
        p = scipy.stats.kstest(draws[:, axis].numpy(), density(centre, 0.5).cdf).pvalue
        assert p > 1e-4


@pytest.mark.parametrize("name", ["gaussian", "laplace", "discretised-logistic"])
def test_the_scale_is_learned_per_channel_or_fixed(name):
    spec = DataSpec("image", (3, 4, 4))
    model = make(name, spec)
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    model.log_prob(torch.zeros_like(x), x).sum().backward()
    (scale,) = model.parameters()
    assert scale.shape == (3, 1, 1)
    assert (scale.grad != 0).all()
    node = {"kind": name, "scale": 0.1}
    fixed = registry.factory("likelihood", registry.resolve("likelihood", node, "l")[0])(spec)
    assert list(fixed.parameters()) == []
    assert "log_scale" in fixed.state_dict()
    assert fixed.sample(x, RandomStream(0)).abs().max() <= 1.0


def test_bernoulli_pictures():
    model = make("bernoulli", DataSpec("image", (1, 2, 2), levels=2))
    logits = torch.tensor([[[[0.0, 30.0], [-30.0, math.log(3.0)]]]])
    expected = torch.tensor([[[[0.0, 1.0], [-1.0, 0.5]]]])
    assert torch.allclose(model.mean(logits), expected, atol=1e-6)
    draw = model.sample(logits.expand(4000, 1, 2, 2), RandomStream(0, "x"))
    assert set(draw.unique().tolist()) == {-1.0, 1.0}
    assert torch.allclose(draw.mean(0), expected[0], atol=0.08)
    x = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    assert model.log_prob(logits, x).item() == pytest.approx(np.log(0.5 * 0.25), rel=1e-5)


def test_wrong_data_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="binarised") as caught:
        make("bernoulli", DataSpec("image", (1, 8, 8)))
    assert "data.binarise" in caught.value.remedy
    with pytest.raises(ConfigError, match="points"):
        make("discretised-logistic", POINTS)
