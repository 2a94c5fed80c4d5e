"""Historical averaging (Salimans et al. 2016, arXiv:1606.03498, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class HistoricalAverage(nn.Module):
    """λ‖θ − (1/t) Σᵢ θ[i]‖² for each player, over all its past weights; held in buffers.

    Args:
        model: whose networks the players train.
        players: names of the sub-modules each player trains.
        weight: λ.
    """

    def __init__(
        self, model: nn.Module, players: Mapping[str, Sequence[str]], weight: float
    ) -> None:
        super().__init__()
        self.players, self.weight = dict(players), weight
        for player in players:
            self.register_buffer(f"mean_{player}", torch.zeros_like(self._weights(model, player)))
            self.register_buffer(f"count_{player}", torch.zeros(()))

    def distance(self, model: nn.Module, player: str) -> Tensor:
        """The weighted squared distance, a scalar; 0 before the first update."""
        mean, count = self._past(player)
        squares = (self._weights(model, player) - mean).square().sum()
        return self.weight * squares * (count > 0)

    @torch.no_grad()
    def record(self, model: nn.Module, player: str) -> None:
        """Take the present weights into the mean."""
        mean, count = self._past(player)
        count += 1
        mean.lerp_(self._weights(model, player), 1.0 / count)

    def _past(self, player: str) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"mean_{player}"), self.get_buffer(f"count_{player}")

    def _weights(self, model: nn.Module, player: str) -> Tensor:
        modules = [model.get_submodule(name) for name in self.players[player]]
        return torch.cat([p.reshape(-1) for module in modules for p in module.parameters()])
