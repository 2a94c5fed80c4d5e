"""A step that nobody waits for: the same as the optimiser's own, or none at all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from genctl.engine.finite_step import step_unread
from genctl.registry import factory, resolve


def trained(kind: str, device: str, **settings):
    """A network in channels_last of which one layer gets no gradient, and its optimiser."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, (1, 2)), nn.Linear(5, 2))
    network = network.to(device, memory_format=torch.channels_last)
    node = resolve("optimiser", {"kind": kind, "lr": 0.1, **settings}, "optim")[0]
    return network, factory("optimiser", node)(list(network.parameters())).optimiser


def backward(network: nn.Module, step: int, device: str) -> None:
    network.zero_grad()
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(step)).to(device)
    network[1](network[0](x)).square().sum().backward()


def everything(network: nn.Module, optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    states = [optimiser.state.get(p, {}).values() for p in network.parameters()]
    moments = [value for state in states for value in state if isinstance(value, torch.Tensor)]
    return [*network.parameters(), *moments]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("rmsprop", {}),
        ("rmsprop", {"momentum": 0.9}),
        ("adam", {}),
    ],
)
def test_it_is_the_optimisers_step_or_none(kind, settings, device):
    ours, rule = trained(kind, device, **settings)
    plain, reference = trained(kind, device, **settings)
    for step, bad in enumerate([1.0, 0.0, 0.0, 1.0, 0.0]):
        for network in (ours, plain):
            backward(network, step, device)
        before = copy.deepcopy(everything(ours, rule))
        step_unread(rule, list(ours.parameters()), torch.tensor(bad, device=device))
        if bad:
            now = everything(ours, rule)
            assert all(torch.equal(a, b) for a, b in zip(before, now, strict=False))
            assert not any(moment.any() for moment in now[len(before) :]), "made by a first step"
        else:
            reference.step()
            for a, b in zip(everything(ours, rule), everything(plain, reference), strict=True):
                assert torch.equal(a, b)
                assert a.stride() == b.stride()


def test_without_a_gradient_there_is_nothing_to_step(device):
    network, rule = trained("sgd", device)
    step_unread(rule, list(network.parameters()), torch.zeros((), device=device))
    assert not rule.state
