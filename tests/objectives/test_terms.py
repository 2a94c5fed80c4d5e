"""A10 and A14: what a generator's loss gets from features, on batches worked by hand."""

from __future__ import annotations

import pytest
import torch

from genctl.objectives.terms import FeatureMatching, PullingAway
from genctl.types import Discrimination


def seen(*rows):
    return Discrimination(torch.zeros(len(rows)), torch.tensor(rows, requires_grad=True))


def test_feature_matching_is_the_squared_distance_of_the_means():
    fake, real = seen([0.0, 2.0], [2.0, 4.0]), seen([4.0, 3.0], [4.0, 3.0], [1.0, 9.0])
    value = FeatureMatching()(fake, real)
    assert float(value.detach()) == pytest.approx((1 - 3) ** 2 + (3 - 5) ** 2)
    (slope,) = torch.autograd.grad(value, fake.features)
    assert slope.tolist() == [[-2.0, -2.0], [-2.0, -2.0]]  # 2·(mean − target) / N


def test_pulling_away_is_the_mean_squared_cosine():
    term = PullingAway()
    assert float(term(seen([1.0, 0.0], [0.0, 3.0]), None).detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(term(seen([1.0, 2.0], [-3.0, -6.0]), None).detach()) == pytest.approx(1.0)
    # Cosines of [1, 0], [1, 1], [0, 1]: ½, ½ and 0 when squared, each pair twice, over 6.
    assert float(term(seen([1.0, 0.0], [5.0, 5.0], [0.0, 2.0]), None).detach()) == pytest.approx(
        2 * (0.5 + 0.5 + 0) / 6
    )


def test_pulling_away_pulls_equal_directions_apart():
    fake = seen([1.0, 0.1], [1.0, -0.1])
    (slope,) = torch.autograd.grad(PullingAway()(fake, None), fake.features)
    assert slope[0, 1] < 0 < slope[1, 1]


def test_one_example_alone_pulls_nobody():
    assert float(PullingAway()(seen([1.0, 2.0]), None).detach()) == 0.0
