"""VAE and AE: a linear-Gaussian model whose log p(x) and posterior are known, and the switches."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from genctl import registry
from genctl.contracts import capabilities
from genctl.errors import ConfigError
from genctl.models.autoencoder import Autoencoder, corrupt
from genctl.models.latent_variable import LatentVariableModel
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec

DIMENSIONS, LATENT, SCALE = 5, 2, 0.6
BINARY = DataSpec("image", (1, 8, 8), levels=2)
COLOUR = DataSpec("image", (3, 8, 8))
POINTS = DataSpec("points", (DIMENSIONS,), levels=0)


def build(spec, kind="latent-variable", **keywords):
    node, problems = registry.resolve("model", {"kind": kind, **keywords}, "model")
    assert not problems
    return registry.factory("model", node)(spec)


def small(spec, kind="latent-variable", **keywords):
    coder = {"kind": "mlp", "width": 16, "depth": 1}
    return build(spec, kind, **{"latent_dim": 4, "encoder": coder, "decoder": coder, **keywords})


class FactorAnalysis:
    """x = W z + m + s ε. Exact: p(x) = N(m, W Wᵀ + s² I), p(z|x) = N(V Wᵀ (x − m)/s², V)."""

    def __init__(self, posterior_shift=0.0, posterior_spread=1.0):
        rng = np.random.default_rng(0)
        # Orthogonal columns make the true posterior diagonal, so the encoder can be exact.
        basis, _ = np.linalg.qr(rng.normal(size=(DIMENSIONS, LATENT)))
        self.W, self.m = basis * np.array([1.3, 0.7]), rng.normal(size=DIMENSIONS)
        self.V = np.linalg.inv(np.eye(LATENT) + self.W.T @ self.W / SCALE**2)
        linear = {"kind": "mlp", "depth": 0}
        self.model = build(
            POINTS,
            latent_dim=LATENT,
            encoder=linear,
            decoder=linear,
            likelihood={"kind": "gaussian", "scale": SCALE},
        ).double()
        # The scale went through float32: take the model's own.
        self.model.likelihood.log_scale.fill_(math.log(SCALE))
        gain = self.V @ self.W.T / SCALE**2
        self.std = posterior_spread * np.sqrt(np.diag(self.V))
        with torch.no_grad():
            decode, encode = self.model.decoder.layers[0], self.model.encoder.layers[0]
            decode.weight.copy_(torch.from_numpy(self.W))
            decode.bias.copy_(torch.from_numpy(self.m))
            encode.weight.zero_()
            encode.weight[:LATENT] = torch.from_numpy(gain)
            encode.bias[:LATENT] = torch.from_numpy(-gain @ self.m) + posterior_shift
            encode.bias[LATENT:] = torch.from_numpy(2.0 * np.log(self.std))
        self.shift = posterior_shift

    def data(self, n):
        rng = np.random.default_rng(1)
        z, noise = rng.normal(size=(n, LATENT)), rng.normal(size=(n, DIMENSIONS))
        return torch.from_numpy(z @ self.W.T + self.m + SCALE * noise)

    def log_marginal(self, x):
        covariance = self.W @ self.W.T + SCALE**2 * np.eye(DIMENSIONS)
        found = scipy.stats.multivariate_normal(self.m, covariance).logpdf(x)
        return torch.from_numpy(np.atleast_1d(found))

    def gap(self):
        """KL(q ‖ true posterior), the same for every x."""
        ratio = self.std**2 / np.diag(self.V)
        square = self.shift**2 / np.diag(self.V)
        return 0.5 * float((ratio + square - 1.0 - np.log(ratio)).sum())


def bound(oracle, x, k, seed=0):
    oracle.model.importance_samples = k
    found = oracle.model.log_likelihood(Batch(x), RandomStream(seed, "nll"))
    assert found.kind == "lower_bound"
    assert f"k = {k}" in found.detail
    return found.values


def test_with_the_true_posterior_one_sample_is_exact():
    oracle = FactorAnalysis()
    x = oracle.data(50)
    expected = oracle.log_marginal(x)
    for k in (1, 7):
        # Every importance weight equals p(x): no Monte Carlo error at all.
        assert torch.allclose(bound(oracle, x, k), expected, atol=1e-9)


def test_the_elbo_gap_is_the_kl_to_the_posterior():
    oracle = FactorAnalysis(posterior_shift=0.3, posterior_spread=1.5)
    x = oracle.data(1)
    rows = 40_000
    loss, parts = oracle.model.loss(Batch(x.expand(rows, -1)), RandomStream(0, "elbo"))
    gap = (oracle.log_marginal(x) + loss).item()
    assert oracle.gap() > 0.3
    assert gap == pytest.approx(oracle.gap(), abs=0.05)
    assert loss.item() == pytest.approx((parts["reconstruction"] + parts["kl"]).item())
    q = oracle.model.posterior(oracle.model.encoder(x))
    expected = 0.5 * (q.mean**2 + (2 * q.log_std).exp() - 1 - 2 * q.log_std).sum()
    assert parts["kl"].item() == pytest.approx(expected.item())  # analytic, not sampled


def test_the_bound_rises_with_k_to_log_p():
    oracle = FactorAnalysis(posterior_shift=0.3, posterior_spread=1.5)
    x = oracle.data(400)
    exact = oracle.log_marginal(x).mean().item()
    means = [bound(oracle, x, k).mean().item() for k in (1, 4, 32, 1000)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(exact - oracle.gap(), abs=0.15)
    assert means[-1] == pytest.approx(exact, abs=0.02)


def test_the_bound_depends_neither_on_chunks_nor_on_the_batch(monkeypatch):
    oracle = FactorAnalysis(posterior_spread=1.5)
    x = oracle.data(20)
    whole = bound(oracle, x, 50)
    monkeypatch.setattr("genctl.models.latent_variable.DECODED_VALUES", 3 * x.numel())
    assert torch.allclose(bound(oracle, x, 50), whole, atol=1e-12)
    stream = RandomStream(0, "nll", first_row=15)
    tail = oracle.model.log_likelihood(Batch(x[15:]), stream).values
    assert torch.allclose(tail, whole[15:], atol=1e-12)


def test_the_loss_gradient_is_that_of_the_elbo():
    """At the true posterior the ELBO touches log p(x): so do their decoder gradients."""
    oracle = FactorAnalysis()
    x = oracle.data(3)
    rows = x.repeat(20_000, 1)
    loss, _ = oracle.model.loss(Batch(rows), RandomStream(0, "gradient"))
    loss.backward()
    W = torch.from_numpy(oracle.W).requires_grad_(True)
    m = torch.from_numpy(oracle.m).requires_grad_(True)
    covariance = W @ W.T + SCALE**2 * torch.eye(DIMENSIONS, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(m, covariance).log_prob(x).mean()
    exact.backward()
    decode = oracle.model.decoder.layers[0]
    assert torch.allclose(decode.weight.grad, -W.grad, atol=0.06)
    assert torch.allclose(decode.bias.grad, -m.grad, atol=0.06)
    assert W.grad.abs().max() > 0.3
    # And the encoder is at its optimum.
    assert oracle.model.encoder.layers[0].weight.grad.abs().max() < 0.1


@pytest.mark.parametrize(
    ("spec", "likelihood"),
    [
        (BINARY, "bernoulli"),
        (COLOUR, "gaussian"),
        (COLOUR, "laplace"),
        (COLOUR, "discretised-logistic"),
        (POINTS, "gaussian"),
    ],
)
@pytest.mark.parametrize("coder", ["mlp", "conv"])
def test_every_likelihood_reaches_every_parameter(spec, likelihood, coder):
    if spec.kind == "points" and coder == "conv":
        with pytest.raises(ConfigError):
            build(spec, likelihood=likelihood, encoder="conv", decoder="conv")
        return
    parts = {"encoder": {"kind": coder, "width": 8}, "decoder": {"kind": coder, "width": 8}}
    model = build(spec, latent_dim=4, likelihood=likelihood, importance_samples=3, **parts)
    x = torch.rand(6, *spec.shape) * 2 - 1
    x = x.sign() if spec.levels == 2 else x
    loss, metrics = model.loss(Batch(x), RandomStream(0, "loss"))
    loss.backward()
    assert set(metrics) == {"reconstruction", "kl"}
    owned = [p for m in model.players["autoencoder"] for p in model.get_submodule(m).parameters()]
    assert set(owned) == set(model.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in owned)
    assert capabilities(model) == [
        "sample",
        "interpolate",
        "encode",
        "reconstruct",
        "log_likelihood",
    ]
    samples = model.sample(6, RandomStream(1, "sample"))
    assert samples.shape == x.shape
    assert model.reconstruct(x).shape == x.shape
    assert model.encode(x).shape == (6, 4)
    found = model.log_likelihood(Batch(x), RandomStream(2, "nll"))
    assert found.values.shape == (6,)
    assert torch.isfinite(found.values).all()
    if spec.kind == "image":
        assert samples.abs().max() <= 1.0
        assert (found.values < 0).all()  # a probability of levels, not a density


def test_observation_noise():
    quiet, noisy = (
        small(BINARY, likelihood="bernoulli", observation_noise=v) for v in (None, True)
    )
    assert len(quiet.sample(4, RandomStream(0)).unique()) > 2
    assert set(noisy.sample(4, RandomStream(0)).unique().tolist()) == {-1.0, 1.0}
    points = small(POINTS, likelihood={"kind": "gaussian", "scale": 3.0})
    z = points.sample_latent(4000, RandomStream(0))
    spread = (points.sample(4000, RandomStream(0)) - points.decode(z)).std().item()
    assert spread == pytest.approx(3.0, rel=0.05)


def test_kl_weight_multiplies_the_kl_only():
    torch.manual_seed(0)
    one = small(COLOUR, kl_weight=1.0)
    torch.manual_seed(0)
    four = small(COLOUR, kl_weight=4.0)
    x = Batch(torch.rand(5, 3, 8, 8) * 2 - 1)
    (a, parts), (b, _) = (m.loss(x, RandomStream(0, "l")) for m in (one, four))
    assert (b - a).item() == pytest.approx(3.0 * parts["kl"].item(), rel=1e-3)


@pytest.mark.parametrize("prior", ["uniform", "sphere", "truncated"])
def test_a_prior_without_full_support_is_refused(prior):
    with pytest.raises(ConfigError, match="density"):
        small(COLOUR, prior=prior)
    assert small(COLOUR, "autoencoder", prior=prior).sample(3, RandomStream(0)).shape[0] == 3


# --- autoencoders --------------------------------------------------------------------------------
def test_an_autoencoder_has_no_likelihood():
    names = ["sample", "interpolate", "encode", "reconstruct"]
    assert capabilities(Autoencoder) == capabilities(small(COLOUR, "autoencoder")) == names
    assert "log_likelihood" in capabilities(LatentVariableModel)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_an_autoencoder_that_copies_has_no_loss(distance):
    model = build(
        POINTS,
        "autoencoder",
        latent_dim=DIMENSIONS,
        encoder={"kind": "mlp", "depth": 0},
        decoder={"kind": "mlp", "depth": 0},
        reconstruction=distance,
    )
    for network in (model.encoder, model.decoder):
        nn.init.eye_(network.layers[0].weight)
        nn.init.zeros_(network.layers[0].bias)
    x = torch.randn(4, DIMENSIONS)
    assert model.loss(Batch(x), RandomStream(0))[0].item() == pytest.approx(0.0, abs=1e-12)
    assert torch.allclose(model.reconstruct(x), x)
    # The denoising switch: the target stays clean, so copying now costs what the noise is.
    model.noise = 0.5
    big = Batch(torch.zeros(5000, DIMENSIONS))
    expected = 0.25 if distance == "l2" else 0.5 * math.sqrt(2 / math.pi)
    assert model.loss(big, RandomStream(0))[0].item() == pytest.approx(expected, rel=0.03)


def test_corruption():
    x = torch.rand(500, 3, 8, 8)
    masked = corrupt(x, 0.0, 0.25, RandomStream(0, "c"))
    hidden = masked == -1.0
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(hidden[:, 0], hidden[:, 2])  # whole pixels, all channels
    assert torch.equal(masked[~hidden], x[~hidden])
    noisy = corrupt(x, 0.3, 0.0, RandomStream(0, "c")) - x
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    assert corrupt(x, 0.0, 0.0, RandomStream(0)) is x


def test_half_precision_activations_are_summed_in_full():
    model = small(BINARY, likelihood="bernoulli").bfloat16()
    x = torch.ones(4, 1, 8, 8, dtype=torch.bfloat16)
    q = model.posterior(model.encoder(x).float())
    assert q.mean.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = small(BINARY, likelihood="bernoulli").loss(Batch(x.float()), RandomStream(0))
    assert loss.dtype == torch.float32
