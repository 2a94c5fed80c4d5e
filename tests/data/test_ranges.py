import math

import numpy as np
import pytest
import torch

from genctl.data import ranges


def test_bytes_go_to_the_model_range_and_back_exactly():
    every = torch.arange(256, dtype=torch.uint8)
    x = ranges.from_bytes(every)
    expected = torch.from_numpy(np.arange(256, dtype=np.float64) * 2 / 255 - 1)
    assert x.dtype == torch.float32
    assert torch.allclose(x.double(), expected, atol=1e-7, rtol=0)
    assert x[0] == -1
    assert x[255] == 1
    assert torch.equal(ranges.to_bytes(x), every)


def test_to_bytes_rounds_and_clamps():
    x = torch.tensor([-3.0, 3.0, 0.0, 100 / 127.5 - 1 + 0.003, 100 / 127.5 - 1 + 0.005])
    # 0 is byte 127.5, a tie that goes to the even neighbour; one byte is 0.00784 wide.
    assert ranges.to_bytes(x).tolist() == [0, 255, 128, 100, 101]


@pytest.mark.parametrize("levels", [2, 3, 16, 32, 256])
def test_levels_are_exact_both_ways(levels):
    k = torch.arange(levels)
    x = ranges.from_levels(k, levels)
    assert x[0] == -1
    assert x[-1] == 1
    assert torch.equal(ranges.to_levels(x, levels), k)
    assert ranges.to_levels(x, levels).dtype == torch.int64


def test_levels_256_are_the_bytes():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(ranges.to_levels(ranges.from_bytes(every), 256), every.long())


def test_unit_range():
    assert ranges.to_unit(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]
    assert ranges.from_unit(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("levels", [2, 256])
def test_dequantised_uniform_density_is_the_uniform_distribution_over_levels(levels):
    # The density 1 on [0, 1]^D gives every image the probability levels^-D.
    x = ranges.from_levels(torch.randint(levels, (5, 1, 3, 2)), levels)
    noise = torch.rand_like(x)
    y, log_jacobian = ranges.dequantise(x, noise, levels)
    assert log_jacobian == pytest.approx(-6 * math.log(levels))
    assert (y >= 0).all()
    assert (y < 1).all()
    assert torch.equal((y * levels).floor().long(), ranges.to_levels(x, levels))
    assert ranges.nats_to_bits_per_dim(-log_jacobian, 6) == pytest.approx(math.log2(levels))


def test_level_width_turns_a_density_into_probabilities():
    # A wide logistic density on the model range: its probabilities over the levels sum to one.
    levels = 256
    x = ranges.from_levels(torch.arange(levels), levels).double()
    log_p = torch.distributions.Normal(0.1, 0.2).log_prob(x) + ranges.log_level_width(levels)
    assert log_p.exp().sum() == pytest.approx(1.0, abs=1e-4)


def test_log_density_changes_with_the_scale():
    # Uniform on [0, 1]^3 is uniform with density 1/8 on [-1, 1]^3.
    assert ranges.unit_to_model_log_density(0.0, 3) == pytest.approx(math.log(1 / 8))
