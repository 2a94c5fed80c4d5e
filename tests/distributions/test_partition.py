"""log Z by enumeration and by annealing, against the sum over every joint state."""

import itertools

import numpy as np
import pytest
import torch

from genctl.distributions.partition import (
    BinaryModel,
    annealed,
    enumerable,
    enumerated,
    temperatures,
)
from genctl.randomness import RandomStream


def machine(visible, hidden, strength=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return BinaryModel(
        torch.from_numpy(rng.normal(size=(visible, hidden)) * strength),
        torch.from_numpy(rng.normal(size=visible)),
        torch.from_numpy(rng.normal(size=hidden)),
    )


def brute(model):
    """Σ over all (v, h), term by term, with plain numpy."""
    W, b, c = (t.numpy() for t in model)
    total = 0.0
    for v in itertools.product((0, 1), repeat=len(b)):
        for h in itertools.product((0, 1), repeat=len(c)):
            total += np.exp(np.dot(b, v) + np.dot(c, h) + np.array(v) @ W @ np.array(h))
    return np.log(total)


@pytest.mark.parametrize(("visible", "hidden"), [(5, 3), (3, 5), (1, 1), (6, 6)])
def test_enumeration_is_the_double_sum(visible, hidden):
    model = machine(visible, hidden)
    found = enumerated(model)
    assert found.value == pytest.approx(brute(model), rel=1e-12)
    assert found.error == 0.0


def test_enumeration_over_several_chunks():
    model = machine(30, 14)
    W, b, c = model
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 14)
    terms = states @ c + torch.log1p(torch.exp(b + states @ W.T)).sum(1)
    expected = torch.logsumexp(terms, 0).item()
    assert enumerated(model).value == pytest.approx(expected, rel=1e-12)
    assert enumerable(model)
    assert not enumerable(machine(21, 21))


def test_temperatures():
    betas = temperatures(14_500)
    assert len(betas) == 14_501
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert (betas.diff() > 0).all()
    assert (betas <= 0.5).sum() == 501
    assert (betas <= 0.9).sum() == 4_501
    assert len(temperatures(3)) == 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_annealing_meets_enumeration(seed):
    model = BinaryModel(*(t.float() for t in machine(30, 10, strength=0.8)))
    exact = enumerated(model).value
    base = torch.full((30,), -0.5)
    found = annealed(model, base, RandomStream(seed, "ais"), chains=100, count=1000)
    assert 0 < found.error < 0.15
    assert abs(found.value - exact) <= max(3 * found.error, 1e-3)
    assert abs(found.value - exact) < 0.5
    assert "1000 temperatures" in found.detail


def test_annealing_is_exact_without_weights():
    """Independent units with the base's biases: every importance weight is the same number."""
    W, b, _ = machine(6, 4)
    model = BinaryModel(torch.zeros_like(W), b, torch.zeros(4, dtype=torch.float64))
    found = annealed(model, b, RandomStream(0), chains=5, count=10)
    assert found.value == pytest.approx(brute(model), rel=1e-6)
    assert found.error == pytest.approx(0.0, abs=1e-6)
