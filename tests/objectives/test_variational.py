"""Bounds and distances against hand-computed numbers."""

import math

import pytest
import torch

from genctl import registry
from genctl.objectives.reconstruction import cross_entropy, l1, l2
from genctl.objectives.variational import importance_weighted_bound, negative_elbo


def test_negative_elbo():
    log_likelihood, kl = torch.tensor([-3.0, -1.0]), torch.tensor([2.0, 0.5])
    assert negative_elbo(log_likelihood, kl).tolist() == [5.0, 1.5]
    assert negative_elbo(log_likelihood, kl, 4.0).tolist() == [11.0, 3.0]


def test_importance_weighted_bound_is_the_log_of_the_mean():
    weights = torch.tensor([[1.0, 2.0], [3.0, 2.0], [8.0, 2.0]], dtype=torch.float64)
    found = importance_weighted_bound(weights.log())
    assert found.tolist() == pytest.approx([math.log(4.0), math.log(2.0)])
    one = torch.randn(1, 5)
    assert torch.allclose(importance_weighted_bound(one), one[0])


def test_importance_weighted_bound_survives_huge_magnitudes():
    found = importance_weighted_bound(torch.tensor([[-1e4], [-1e4]]))
    assert found.item() == pytest.approx(-1e4)


def test_distances_are_means_over_an_example():
    output = torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.5]]]])
    x = torch.tensor([[[[1.0, -1.0]]], [[[0.5, 0.5]]]])
    assert l1(output, x).tolist() == [1.5, 0.0]
    assert l2(output, x).tolist() == [2.5, 0.0]
    half = cross_entropy(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.2]]]]))
    assert half.item() == pytest.approx(math.log(2.0))
    wrong = cross_entropy(torch.tensor([[2.0]]), torch.tensor([[-1.0]]))
    assert wrong.item() == pytest.approx(math.log(1.0 + math.exp(2.0)))


@pytest.mark.parametrize("name", ["l1", "l2", "cross-entropy"])
def test_registered_distances_are_least_at_the_target(name):
    distance = registry.factory("reconstruction", {"kind": name})()
    x = torch.tensor([[[[0.5, -0.25]]]], dtype=torch.float64)
    perfect = torch.logit((x + 1) / 2) if name == "cross-entropy" else x.clone()
    assert torch.allclose(distance.picture(perfect), x)
    least = distance(perfect, x)
    assert least.shape == (1,)
    for step in (-0.1, 0.1):
        assert (distance(perfect + step, x) > least).all()
