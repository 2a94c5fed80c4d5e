"""A18's networks: the paper's table, every size that halves."""

from __future__ import annotations

import pytest
import torch

from genctl import registry


def build(slot, *facts, **keywords):
    return registry.get(slot, "infogan").build(*facts, **keywords)


def test_the_parameters_are_those_of_the_papers_table():
    """Appendix C.1, table 1, layer by layer; a scale and a shift for each batch norm."""
    flat = 7 * 7 * 128
    generator = 74 * 1024 + 2 * 1024 + 1024 * flat + 2 * flat
    generator += 16 * 128 * 64 + 2 * 64 + 16 * 64 + 1
    discriminator = 16 * 64 + 64 + 16 * 64 * 128 + 2 * 128
    discriminator += flat * 1024 + 2 * 1024 + 1024 + 1
    with torch.device("meta"):
        networks = [build("generator", 74, (1, 28, 28)), build("discriminator", (1, 28, 28))]
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert found == [generator, discriminator]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (1, 28, 28), (3, 64, 64)])
def test_every_multiple_of_four_will_do(shape):
    fake = build("generator", 5, shape, width=4, hidden=6)(torch.randn(3, 5))
    assert fake.shape == (3, *shape)
    assert fake.abs().max() <= 1
    found = build("discriminator", shape, width=4, hidden=6)(fake)
    assert found.score.shape == (3,)
    assert found.features.shape == (3, 6)
