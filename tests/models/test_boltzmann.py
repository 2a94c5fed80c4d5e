"""RBM: free energy, chains, gradients and likelihood against enumeration."""

import itertools
import math

import pytest
import torch

from genctl import registry
from genctl.contracts import capabilities
from genctl.errors import ConfigError
from genctl.models.boltzmann import RestrictedBoltzmannMachine
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec

TINY = DataSpec("image", (1, 2, 2), levels=2)
V, H = 4, 3


def states(n, dtype=torch.float64):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=dtype)


def tiny(seed=0, strength=1.0, spec=TINY, width=H, **keywords):
    torch.manual_seed(seed)
    model = RestrictedBoltzmannMachine(spec, width=width, **keywords)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=strength)
    return model


def joint(model):
    """−E(v, h) for all states, ``(2^V, 2^H)``, written out."""
    W, b, c = (p.double() for p in model.energy.parameters())
    v, h = states(b.numel()), states(c.numel())
    return (v @ b).unsqueeze(1) + (h @ c).unsqueeze(0) + v @ W @ h.T


def exact_log_p(model):
    table = joint(model)
    return torch.logsumexp(table, 1) - torch.logsumexp(table.flatten(), 0)


class FakeUpdate:
    """The engine's part of a step: gradients, then plain descent."""

    def __init__(self, model, lr, seed=0):
        self.model, self.lr, self.seed, self.logging, self.step = model, lr, seed, True, 0
        self.rng = RandomStream(seed, "step", 0)

    def __call__(self, player, loss_fn, batch=None):
        loss, metrics = loss_fn() if batch is None else loss_fn(batch)
        self.model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in self.model.parameters():
                p -= self.lr * p.grad
        self.step += 1
        self.rng = RandomStream(self.seed, "step", self.step)
        return {f"loss/{player}": loss.detach(), **metrics}


def pictures(units):
    return Batch((2.0 * units - 1.0).float().view(-1, 1, 2, 2))


# --- energy and likelihood -----------------------------------------------------------------------
def test_free_energy_is_the_sum_over_hidden_states():
    model = tiny()
    expected = -torch.logsumexp(joint(model), 1)
    found = model.energy(states(V, torch.float32))
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_conditionals_are_those_of_the_joint():
    model = tiny()
    table = joint(model)
    given_v = torch.softmax(table, 1) @ states(H)
    given_h = torch.softmax(table, 0).T @ states(V)
    v, h = states(V, torch.float32), states(H, torch.float32)
    found_h, found_v = model.energy.hidden_logits(v), model.energy.visible_logits(h)
    assert torch.allclose(found_h.sigmoid().double(), given_v, atol=1e-5)
    assert torch.allclose(found_v.sigmoid().double(), given_h, atol=1e-5)


def test_log_likelihood_is_exact_and_sums_to_one():
    model = tiny()
    found = model.log_likelihood(pictures(states(V)), RandomStream(0, "nll"))
    assert found.kind == "exact"
    assert torch.allclose(found.values.double(), exact_log_p(model), atol=1e-5)
    assert found.values.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_log_likelihood_by_annealing(monkeypatch):
    spec = DataSpec("image", (1, 5, 5), levels=2)
    model = tiny(spec=spec, width=8, strength=0.7, ais_chains=64, ais_temperatures=500)
    x = torch.randn(6, 1, 5, 5).sign()
    exact = model.log_likelihood(Batch(x), RandomStream(0)).values
    monkeypatch.setattr("genctl.distributions.partition.ENUMERABLE", 5)
    model._known = None
    found = model.log_likelihood(Batch(x), RandomStream(0, "nll"))
    assert found.kind == "estimate"
    assert "AIS, 64 chains, 500 temperatures" in found.detail
    assert "±" in found.detail
    assert (found.values - exact).abs().max() < 0.5


def test_log_partition_is_kept_until_the_weights_change(monkeypatch):
    model = tiny()
    calls = []
    from genctl.models import boltzmann

    original = boltzmann.enumerated
    monkeypatch.setattr(boltzmann, "enumerated", lambda m: calls.append(1) or original(m))
    first = model.log_partition(RandomStream(0, "nll"))
    assert model.log_partition(RandomStream(0, "nll", first_row=64)) == first
    assert len(calls) == 1
    with torch.no_grad():
        model.energy.visible_bias += 0.1
    assert model.log_partition(RandomStream(0, "nll")).value > first.value
    assert len(calls) == 2


def test_pseudo_likelihood_is_its_expectation():
    model = tiny()
    log_p = exact_log_p(model)
    v, places = states(V), 2 ** torch.arange(V - 1, -1, -1)
    numbers = (v.long() * places).sum(1)
    flipped = torch.stack([numbers ^ p for p in places.tolist()], 1)
    expected = torch.nn.functional.logsigmoid(log_p.unsqueeze(1) - log_p[flipped]).sum(1)
    many = states(V, torch.float32).repeat(2000, 1)
    found = model.energy.pseudo_likelihood(many, RandomStream(0)).view(2000, -1).mean(0)
    assert torch.allclose(found.double(), expected, atol=0.15)


# --- chains --------------------------------------------------------------------------------------
def test_gibbs_leaves_the_model_distribution_alone():
    model = tiny(strength=1.2)
    p = exact_log_p(model).exp().detach()
    rng = torch.Generator().manual_seed(0)
    rows = 60_000
    start = states(V, torch.float32)[torch.multinomial(p, rows, True, generator=rng)]
    ends = model.energy.gibbs(start, RandomStream(0, "gibbs"), 1)
    codes = (ends.long() * 2 ** torch.arange(V - 1, -1, -1)).sum(1)
    histogram = torch.bincount(codes, minlength=2**V) / rows
    assert 0.5 * (histogram - p).abs().sum().item() < 0.012


def test_a_long_chain_forgets_its_start():
    model = tiny(strength=0.8)
    p = exact_log_p(model).exp().detach()
    ends = model.energy.gibbs(torch.zeros(20_000, V), RandomStream(1, "gibbs"), 40)
    codes = (ends.long() * 2 ** torch.arange(V - 1, -1, -1)).sum(1)
    histogram = torch.bincount(codes, minlength=2**V) / 20_000
    assert 0.5 * (histogram - p).abs().sum().item() < 0.02


def test_transitions_are_in_detailed_balance():
    """Σ_h p(h|v) p(v'|h) p(v) is symmetric in v, v': the kernel that gibbs draws from."""
    model = tiny()
    v, h = states(V, torch.float32), states(H, torch.float32)
    up, down = model.energy.hidden_logits(v), model.energy.visible_logits(h)

    def table(logits, values):
        signed = torch.where(values.bool().unsqueeze(0), logits.unsqueeze(1), -logits.unsqueeze(1))
        return torch.nn.functional.logsigmoid(signed).sum(2).exp()

    kernel = table(up, h) @ table(down, v)
    flow = exact_log_p(model).exp().unsqueeze(1) * kernel.double()
    assert torch.allclose(flow, flow.T, atol=1e-6)
    assert torch.allclose(kernel.sum(1), torch.ones(2**V), atol=1e-5)


def test_the_gradient_with_a_long_chain_is_that_of_the_exact_likelihood():
    model = tiny(strength=0.8, chain="contrastive")
    data = states(V, torch.float32)[torch.tensor([1, 1, 7, 12])]
    log_p = exact_log_p(model)
    (-log_p[torch.tensor([1, 1, 7, 12])].mean()).backward()
    exact = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    chain = model.energy.gibbs(data.repeat(5_000, 1), RandomStream(0, "long"), 30)
    assert not chain.requires_grad
    model.loss(data, chain)[0].backward()
    for p, expected in zip(model.parameters(), exact, strict=True):
        assert torch.allclose(p.grad, expected, atol=0.02)
    assert max(e.abs().max() for e in exact) > 0.1


# --- training ------------------------------------------------------------------------------------
@pytest.mark.parametrize("chain", ["contrastive", "persistent"])
def test_training_reaches_the_best_likelihood(chain):
    """Three equally likely pictures: −log p of the data cannot be below log 3."""
    data = pictures(states(V)[torch.tensor([0, 5, 15])])
    model = tiny(strength=0.05, width=8, chain=chain, k=3, chains=64)
    batch = Batch(data.x.repeat(21, 1, 1, 1))
    update = FakeUpdate(model, lr=0.2)
    update.logging = False
    model.initialise(itertools.repeat(batch), RandomStream(0, "start"))

    def nll():
        return -model.log_likelihood(data, RandomStream(0)).values.mean().item()

    before = nll()
    for _ in range(800):
        model.training_step(itertools.repeat(batch), update)
    assert before > 2.0
    assert math.log(3) < nll() < math.log(3) + 0.35


def test_persistent_chains_persist_and_are_resumed_exactly():
    model = tiny(chains=7, strength=0.5)
    batch = pictures(states(V))
    model.initialise(itertools.repeat(batch), RandomStream(0, "start"))
    assert model.state_dict()["particles"].shape == (7, V)
    seen = [model.particles.clone()]
    update = FakeUpdate(model, lr=0.01)
    for _ in range(2):
        before = model.particles.clone()
        expected = model.energy.gibbs(before, update.rng.shared("chain"), 1)
        model.training_step(itertools.repeat(batch), update)
        assert torch.equal(model.particles, expected)  # continued from where it was
        seen.append(model.particles.clone())
    assert not torch.equal(seen[1], seen[2])

    twin = tiny(seed=9, chains=7)
    twin.load_state_dict(model.state_dict())
    again = FakeUpdate(twin, lr=0.01)
    again.rng = update.rng
    model.training_step(itertools.repeat(batch), update)
    again.rng = RandomStream(0, "step", 2)
    twin.training_step(itertools.repeat(batch), again)
    for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert "particles" not in tiny(chain="contrastive").state_dict()


def test_initialise_takes_the_base_rates():
    model = tiny()
    x = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 2, 2).repeat(4, 1, 1, 1)
    x[0, 0, 0, 0] = -1.0
    model.initialise(itertools.repeat(Batch(x)), RandomStream(0))
    rates = model.energy.visible_bias.sigmoid()
    assert rates.tolist() == pytest.approx([0.75, 0.0, 1.0, 0.0], abs=0.01)
    assert torch.isfinite(model.energy.visible_bias).all()


# --- capabilities --------------------------------------------------------------------------------
def test_capabilities():
    model = tiny(sample_steps=20)
    assert capabilities(model) == [
        "sample",
        "reconstruct",
        "log_likelihood",
        "complete",
        "features",
    ]
    samples = model.sample(5, RandomStream(0, "sample"))
    assert samples.shape == (5, 1, 2, 2)
    assert samples.abs().max() <= 1
    tail = model.sample(2, RandomStream(0, "sample", first_row=3))
    assert torch.allclose(samples[3:], tail, atol=1e-6)
    assert model.reconstruct(samples).shape == samples.shape
    assert model.features(samples).shape == (5, H)
    x = torch.randn(5, 1, 2, 2).sign()
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]).expand(5, 1, 2, 2)
    full = model.complete(x, mask, RandomStream(0, "complete"))
    assert torch.equal(full[mask.bool()], x[mask.bool()])
    assert set(full.unique().tolist()) <= {-1.0, 1.0}


def test_completion_is_the_conditional():
    model = tiny(sample_steps=15)
    x = torch.tensor([[[[1.0, -1.0], [-1.0, -1.0]]]]).repeat(20_000, 1, 1, 1)
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]]).expand_as(x)
    full = model.complete(x, mask, RandomStream(0, "complete"))
    p = exact_log_p(model).exp()
    expected = p[0b1100] / (p[0b1000] + p[0b1100])
    assert (full[:, 0, 0, 1] == 1).float().mean().item() == pytest.approx(
        expected.item(), abs=0.015
    )


def test_samples_have_the_models_mean():
    model = tiny(sample_steps=60, strength=0.8)
    p = exact_log_p(model).exp()
    expected = 2.0 * (p @ states(V)) - 1.0
    found = model.sample(10_000, RandomStream(0, "s")).flatten(1).mean(0)
    assert torch.allclose(found.double(), expected, atol=0.03)


@pytest.mark.parametrize("spec", [DataSpec("image", (1, 8, 8)), DataSpec("points", (2,), levels=0)])
def test_data_that_is_not_binary_is_refused(spec):
    with pytest.raises(ConfigError, match="binarised") as caught:
        RestrictedBoltzmannMachine(spec)
    assert "data.binarise" in caught.value.remedy


def test_the_schema_refuses_nonsense():
    node = {"kind": "rbm", "k": 0, "chain": "parallel", "breadth": 3}
    problems = registry.resolve("model", node, "model")[1]
    assert len(problems) == 3
