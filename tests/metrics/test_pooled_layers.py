"""Radford's features: every layer's map on a grid of four by four, side by side."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from genctl.metrics.features.pooled import pooled_layers


def test_each_map_is_pooled_to_four_by_four_and_small_ones_stay():
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 5, 4, stride=4)
    network = nn.Sequential(first, nn.LeakyReLU(0.2, inplace=True), second, nn.ReLU(inplace=True))
    network.append(nn.Flatten()).append(nn.Linear(20, 7)).append(nn.ReLU())
    x = torch.randn(6, 1, 8, 8)
    found = pooled_layers(network, network, x)
    low = F.leaky_relu(first(x), 0.2)
    high = F.relu(second(low))
    by_hand = [low.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)).flatten(1), high.flatten(1)]
    assert found is not None
    assert torch.equal(found, torch.cat(by_hand, 1))
    assert found.shape == (6, 3 * 16 + 5 * 4)


def test_nothing_stays_behind_and_a_network_without_maps_has_none():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    assert pooled_layers(network, network, torch.zeros(2, 1, 2, 2)) is None
    assert not any(module._forward_hooks for module in network.modules())
