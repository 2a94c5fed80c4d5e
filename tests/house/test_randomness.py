"""Noise belongs to its address: seed, stream, call, row."""

from __future__ import annotations

import pytest
import torch

from genctl.randomness import CHUNK, RandomStream


@pytest.mark.parametrize("draw", ["normal", "uniform", "gumbel"])
@pytest.mark.parametrize("sizes", [(200,), (1, 199), (64, 64, 72), (7, 130, 63), (100, 100)])
def test_rows_do_not_depend_on_the_batch(draw, sizes, device):
    whole = getattr(RandomStream(3, "sample", device=device), draw)(200, 5)
    parts, first = [], 0
    for size in sizes:
        stream = RandomStream(3, "sample", first_row=first, device=device)
        parts.append(getattr(stream, draw)(size, 5))
        first += size
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_together_draw_what_one_would(world, device):
    whole = RandomStream(0, "training", 9, device=device).normal(48, 3)
    ranks = [
        RandomStream(0, "training", 9, rank=r, device=device).normal(48 // world, 3)
        for r in range(world)
    ]
    assert torch.equal(whole, torch.cat(ranks))


def test_calls_streams_and_seeds_are_independent():
    stream = RandomStream(0, "a")
    first, second = stream.normal(CHUNK, 100), stream.normal(CHUNK, 100)
    other = RandomStream(0, "b").normal(CHUNK, 100)
    seeded = RandomStream(1, "a").normal(CHUNK, 100)
    forked = RandomStream(0, "a").fork("x").normal(CHUNK, 100)
    draws = torch.stack([d.flatten() for d in (first, second, other, seeded, forked)])
    correlation = torch.corrcoef(draws) - torch.eye(5)
    assert correlation.abs().max() < 0.06  # 6,400 pairs: 4.8 standard errors


def test_neighbouring_chunks_are_independent():
    rows = RandomStream(0, "a").normal(4 * CHUNK, 200).view(4, -1)
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 0.05


def test_a_shared_fork_is_equal_on_every_rank():
    draws = [RandomStream(0, "s", rank=r).shared("x").uniform(3) for r in range(3)]
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


def test_moments():
    stream = RandomStream(5, "moments")
    normal, uniform = stream.normal(4000, 50), stream.uniform(4000, 50)
    assert abs(float(normal.mean())) < 0.01
    assert abs(float(normal.std()) - 1) < 0.01
    assert abs(float(uniform.mean()) - 0.5) < 0.005
    gumbel = stream.gumbel(4000, 50)
    assert abs(float(gumbel.mean()) - 0.5772) < 0.02
    assert torch.isfinite(gumbel).all()
    p = torch.full((4000, 10), 0.3)
    assert abs(float(stream.bernoulli(p).mean()) - 0.3) < 0.01


def test_permutation_is_a_permutation():
    assert torch.equal(RandomStream(0, "p").permutation(100).sort().values, torch.arange(100))
