"""Encoders and decoders take every size the contract names, and use every pixel."""

import pytest
import torch

from genctl import registry
from genctl.errors import ConfigError

SHAPES = [(1, 8, 8), (3, 12, 12), (1, 20, 20), (1, 28, 28), (3, 32, 32), (3, 36, 36), (3, 64, 64)]


def make(slot, kind, *facts, **keywords):
    node, problems = registry.resolve(slot, {"kind": kind, **keywords}, slot)
    assert not problems
    return registry.factory(slot, node)(*facts)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_reach(kind, shape):
    encoder = make("encoder", kind, shape, 6, width=8)
    decoder = make("decoder", kind, 5, shape, width=8)
    x = torch.randn(2, *shape, requires_grad=True)
    code = encoder(x)
    assert code.shape == (2, 6)
    code.square().sum().backward()
    assert (x.grad != 0).float().mean() > 0.9  # every pixel is seen
    z = torch.randn(2, 5, requires_grad=True)
    picture = decoder(z)
    assert picture.shape == (2, *shape)
    picture.square().sum().backward()
    assert all(p.grad is not None for m in (encoder, decoder) for p in m.parameters())


@pytest.mark.parametrize("slot", ["encoder", "decoder"])
def test_an_example_does_not_depend_on_its_neighbours(slot):
    facts = ((1, 8, 8), 4) if slot == "encoder" else (4, (1, 8, 8))
    network = make(slot, "conv", *facts, width=8)
    rows = torch.randn(5, *(facts[0] if slot == "encoder" else (4,)))
    assert torch.allclose(network(rows)[:1], network(rows[:1]), atol=1e-5)


def test_points_and_depth_zero():
    assert make("encoder", "mlp", (2,), 3)(torch.randn(4, 2)).shape == (4, 3)
    linear = make("decoder", "mlp", 3, (2,), depth=0)
    assert sum(p.numel() for p in linear.parameters()) == 3 * 2 + 2
    assert linear(torch.randn(4, 3)).shape == (4, 2)
    with pytest.raises(ConfigError, match="images"):
        make("encoder", "conv", (2,), 3)


def test_bad_sizes_are_reported():
    assert registry.resolve("encoder", {"kind": "mlp", "width": 0}, "model.encoder")[1]
    assert registry.resolve("decoder", {"kind": "conv", "width": 2.5}, "model.decoder")[1]
