"""T6: the priors' norms and densities are as stated."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from genctl import registry
from genctl.randomness import RandomStream

PRIORS = registry.names("prior")
N = 20_000


def make(name, latent_dim, **keywords):
    node, problems = registry.resolve("prior", {"kind": name, **keywords}, "prior")
    assert not problems
    return registry.factory("prior", node)(latent_dim)


def test_all_priors_are_found():
    assert {"gaussian", "uniform", "sphere", "truncated"} <= set(PRIORS)


@pytest.mark.parametrize("name", PRIORS)
def test_contract(name):
    prior = make(name, 5)
    z = prior.sample(70, RandomStream(0, "z"))
    assert z.shape == (70, 5)
    assert prior.geometry in ("sphere", "flat")
    assert torch.isfinite(prior.log_prob(z)).all()
    assert prior.log_prob(z.view(7, 10, 5)).shape == (7, 10)
    tail = prior.sample(6, RandomStream(0, "z", first_row=64))
    assert torch.equal(z[64:], tail)


def test_gaussian_norms_are_chi():
    z = make("gaussian", 16).sample(N, RandomStream(0, "g"))
    assert scipy.stats.kstest(z.norm(dim=1).numpy(), scipy.stats.chi(16).cdf).pvalue > 1e-4
    x = torch.randn(5, 16, dtype=torch.float64)
    expected = scipy.stats.multivariate_normal(np.zeros(16)).logpdf(x)
    np.testing.assert_allclose(make("gaussian", 16).log_prob(x), expected, rtol=1e-12)


def test_uniform_coordinates_and_density():
    prior = make("uniform", 3)
    z = prior.sample(N, RandomStream(0, "u"))
    assert scipy.stats.kstest(z.flatten().numpy(), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-4
    assert z.square().sum(1).mean().item() == pytest.approx(1.0, abs=0.02)  # d/3
    inside, outside = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([0.0, 0.0, 1.01])
    assert prior.log_prob(inside).item() == pytest.approx(-3 * math.log(2))
    assert prior.log_prob(outside).item() == -math.inf


@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_sphere_norms_and_uniformity(radius):
    prior = make("sphere", 3, radius=radius)
    z = prior.sample(N, RandomStream(0, "s"))
    assert torch.allclose(z.norm(dim=1), torch.tensor(radius), rtol=1e-5)
    # Archimedes: in three dimensions each coordinate is uniform on [−r, r].
    reference = scipy.stats.uniform(-radius, 2 * radius).cdf
    for axis in range(3):
        assert scipy.stats.kstest(z[:, axis].numpy(), reference).pvalue > 1e-4
    area = 4 * math.pi * radius**2
    assert prior.log_prob(z[0]).item() == pytest.approx(-math.log(area), rel=1e-5)
    assert prior.log_prob(1.1 * z[0]).item() == -math.inf
    circle = make("sphere", 2, radius=radius)
    on = torch.tensor([0.0, radius])
    assert circle.log_prob(on).item() == pytest.approx(-math.log(2 * math.pi * radius), rel=1e-5)


@pytest.mark.parametrize("bound", [2.0, 0.5])
def test_truncated_is_scipys(bound):
    prior = make("truncated", 2, bound=bound)
    z = prior.sample(N, RandomStream(0, "t"))
    assert z.abs().max() <= bound
    assert z.abs().max() > 0.98 * bound
    reference = scipy.stats.truncnorm(-bound, bound)
    assert scipy.stats.kstest(z.flatten().numpy(), reference.cdf).pvalue > 1e-4
    x = torch.tensor([[0.1, -0.4], [bound, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(prior.log_prob(x), reference.logpdf(x).sum(1), rtol=1e-10)
    assert prior.log_prob(torch.tensor([0.0, bound + 0.01])).item() == -math.inf
