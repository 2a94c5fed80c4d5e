"""Densities against scipy and quadrature, draws against densities, in float64."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from genctl.distributions.bernoulli import Bernoulli
from genctl.distributions.categorical import Categorical
from genctl.distributions.discretised_logistic import DiscretisedLogistic
from genctl.distributions.gaussian import Gaussian
from genctl.randomness import RandomStream

DOUBLE = torch.float64


def double(*values):
    return torch.tensor(values, dtype=DOUBLE)


def gaussian(rows=3, size=4, seed=0):
    rng = np.random.default_rng(seed)
    mean, log_std = rng.normal(size=(rows, size)), rng.normal(size=(rows, size)) * 0.5
    return Gaussian(torch.from_numpy(mean), torch.from_numpy(log_std))


# --- Gaussian ------------------------------------------------------------------------------------
def test_gaussian_log_prob_is_scipys():
    q, x = gaussian(), torch.randn(3, 4, dtype=DOUBLE)
    expected = scipy.stats.norm(q.mean, q.log_std.exp()).logpdf(x).sum(1)
    np.testing.assert_allclose(q.log_prob(x), expected, rtol=1e-12)
    expected = scipy.stats.norm(q.mean, q.log_std.exp()).entropy().sum(1)
    np.testing.assert_allclose(q.entropy(), expected, rtol=1e-12)


@pytest.mark.parametrize("standard", [True, False])
def test_gaussian_kl_is_the_integral(standard):
    q = gaussian(rows=1, size=1)
    p = Gaussian(double([0.0]), double([0.0])) if standard else gaussian(1, 1, seed=5)
    f, g = (scipy.stats.norm(d.mean.item(), d.log_std.exp().item()) for d in (q, p))
    integral, _ = scipy.integrate.quad(
        lambda x: f.pdf(x) * (f.logpdf(x) - g.logpdf(x)), -30, 30, limit=500
    )
    found = q.kl() if standard else q.kl(p)
    assert found.item() == pytest.approx(integral, rel=1e-7)


def test_gaussian_kl_adds_over_the_axes_and_vanishes_at_equality():
    q, p = gaussian(seed=1), gaussian(seed=2)
    assert torch.allclose(q.kl(q), torch.zeros(3, dtype=DOUBLE), atol=1e-12)
    single = [
        Gaussian(q.mean[:, i : i + 1], q.log_std[:, i : i + 1]).kl(
            Gaussian(p.mean[:, i : i + 1], p.log_std[:, i : i + 1])
        )
        for i in range(4)
    ]
    assert torch.allclose(q.kl(p), sum(single), rtol=1e-12)


def test_gaussian_draws_have_its_moments_and_pathwise_gradients():
    mean = torch.full((20_000, 1), 0.7, requires_grad=True)
    log_std = torch.full((20_000, 1), -0.4, requires_grad=True)
    x = Gaussian(mean, log_std).rsample(RandomStream(0, "test"))
    std = np.exp(-0.4)
    assert x.mean().item() == pytest.approx(0.7, abs=5 * std / np.sqrt(20_000))
    assert x.std().item() == pytest.approx(std, rel=0.03)
    x.sum().backward()
    assert torch.equal(mean.grad, torch.ones_like(mean))
    assert torch.allclose(log_std.grad, (x - mean).detach(), atol=1e-6)
    assert not Gaussian(mean, log_std).sample(RandomStream(0)).requires_grad


def test_draws_do_not_depend_on_the_batch():
    whole = Gaussian(torch.zeros(100, 3), torch.zeros(1)).sample(RandomStream(3, "s"))
    part = Gaussian(torch.zeros(7, 3), torch.zeros(1)).sample(RandomStream(3, "s", first_row=70))
    assert torch.equal(whole[70:77], part)


# --- Bernoulli -----------------------------------------------------------------------------------
def test_bernoulli_against_scipy():
    logits = torch.tensor([[-3.0, 0.2, 5.0], [0.0, 40.0, -40.0]], dtype=DOUBLE)
    x = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]], dtype=DOUBLE)
    reference = scipy.stats.bernoulli(scipy.special.expit(logits.numpy()))
    d = Bernoulli(logits)
    np.testing.assert_allclose(d.log_prob(x), reference.logpmf(x).sum(1), rtol=1e-10)
    np.testing.assert_allclose(d.entropy(), reference.entropy().sum(1), rtol=1e-9, atol=1e-12)
    assert d.mode.tolist() == [[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]


def test_bernoulli_kl_is_the_sum_over_states():
    p, q = Bernoulli(double([0.3], [-2.0])), Bernoulli(double([1.1], [0.4]))
    states = [torch.full((2, 1), value, dtype=DOUBLE) for value in (0.0, 1.0)]
    expected = sum(p.log_prob(s).exp() * (p.log_prob(s) - q.log_prob(s)) for s in states)
    assert torch.allclose(p.kl(q), expected, rtol=1e-12)


def test_bernoulli_draws_have_its_mean():
    d = Bernoulli(torch.logit(torch.tensor([[0.1, 0.5, 0.95]])).expand(20_000, 3))
    x = d.sample(RandomStream(1, "b"))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(x.mean(0), torch.tensor([0.1, 0.5, 0.95]), atol=0.018)


# --- Categorical ---------------------------------------------------------------------------------
def test_categorical_against_scipy():
    logits = torch.randn(4, 2, 5, dtype=DOUBLE)
    probabilities = scipy.special.softmax(logits.numpy(), axis=-1)
    d, k = Categorical(logits), torch.randint(5, (4, 2))
    chosen = np.take_along_axis(probabilities, k[..., None].numpy(), -1)
    np.testing.assert_allclose(d.log_prob(k), np.log(chosen).sum((1, 2)), rtol=1e-12)
    expected = scipy.stats.entropy(probabilities, axis=-1).sum(1)
    np.testing.assert_allclose(d.entropy(), expected, rtol=1e-12)
    other = torch.randn(4, 2, 5, dtype=DOUBLE)
    expected = scipy.stats.entropy(
        probabilities, scipy.special.softmax(other.numpy(), axis=-1), axis=-1
    )
    np.testing.assert_allclose(d.kl(Categorical(other)), expected.sum(1), rtol=1e-10)
    assert torch.equal(d.mode, logits.argmax(-1))


def test_categorical_with_an_impossible_class():
    d = Categorical(double([0.0, 0.0, -torch.inf]))
    assert d.entropy().item() == pytest.approx(np.log(2.0))
    assert d.kl(Categorical(double([0.0, 0.0, 0.0]))).item() == pytest.approx(np.log(1.5))


def test_categorical_draws_have_its_frequencies():
    probabilities = torch.tensor([0.05, 0.2, 0.75])
    d = Categorical(probabilities.log().expand(20_000, 1, 3))
    counts = torch.bincount(d.sample(RandomStream(2, "c")).flatten(), minlength=3)
    assert scipy.stats.chisquare(counts.numpy(), 20_000 * probabilities.numpy()).pvalue > 1e-4


# --- discretised logistic ------------------------------------------------------------------------
def all_levels(levels):
    return 2.0 * torch.arange(levels, dtype=DOUBLE) / (levels - 1) - 1.0


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("mean", [-3.0, -0.999, 0.0013, 0.81, 2.5])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 2.0])
def test_discretised_logistic_sums_to_one_and_is_the_cdf_difference(levels, mean, log_scale):
    x = all_levels(levels).unsqueeze(1)
    d = DiscretisedLogistic(torch.full_like(x, mean), torch.tensor(log_scale, dtype=DOUBLE), levels)
    log_p = d.log_prob(x)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    reference = scipy.stats.logistic(mean, np.exp(log_scale))
    half = 1.0 / (levels - 1)
    upper, lower = x.numpy() + half, x.numpy() - half
    upper[-1], lower[0] = np.inf, -np.inf
    # The difference of survival functions is exact on the other side of the mean.
    left, right = (
        reference.cdf(upper) - reference.cdf(lower),
        reference.sf(lower) - reference.sf(upper),
    )
    expected = np.where(x.numpy() < mean, left, right).squeeze(1)
    visible = expected > 1e-250
    assert visible.any()
    np.testing.assert_allclose(
        log_p.numpy()[visible], np.log(expected[visible]), rtol=1e-7, atol=1e-12
    )
    assert torch.isfinite(log_p).all()
    assert torch.allclose(d.mode, x[log_p.argmax()].expand_as(x), atol=1e-6)


def test_discretised_logistic_gradients_stay_finite_far_away():
    mean = torch.tensor([[30.0], [-30.0], [0.0]], requires_grad=True)
    log_scale = torch.full((3, 1), -7.0, requires_grad=True)
    DiscretisedLogistic(mean, log_scale).log_prob(torch.zeros(3, 1)).sum().backward()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(log_scale.grad).all()
    assert mean.grad[0] < 0 < mean.grad[1]


def test_discretised_logistic_draws_have_its_probabilities():
    mean, log_scale = torch.full((40_000, 1), 0.3), torch.tensor(-0.5)
    d = DiscretisedLogistic(mean, log_scale, levels=8)
    x = d.sample(RandomStream(4, "d"))
    grid = all_levels(8).float().unsqueeze(1)
    expected = DiscretisedLogistic(mean[:8], log_scale, 8).log_prob(grid).exp()
    counts = torch.bincount(((x + 1) * 3.5).round().long().flatten(), minlength=8)
    share = expected.double() / expected.double().sum() * 40_000
    assert scipy.stats.chisquare(counts.numpy(), share.numpy()).pvalue > 1e-4
