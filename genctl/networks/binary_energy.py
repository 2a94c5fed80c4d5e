"""The energy of binary visible and hidden units: all that a restricted Boltzmann machine learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genctl.randomness import RandomStream

FIRST_WEIGHT = 0.01
"""Standard deviation of the first weights (Hinton 2010, A practical guide, section 8.1)."""


class BinaryEnergy(nn.Module):
    """E(v, h) = −b·v − c·h − v·W·h for v in {0, 1}^visible and h in {0, 1}^width.

    Args:
        visible: number of visible units.
        width: number of hidden units.
    """

    def __init__(self, visible: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(visible, width) * FIRST_WEIGHT)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(width))

    def forward(self, v: Tensor) -> Tensor:
        """Free energy F(v) = −log Σ_h exp(−E(v, h)): ``(N, visible)`` → ``(N,)`` nats."""
        return -v @ self.visible_bias - F.softplus(self.hidden_logits(v)).sum(-1)

    def hidden_logits(self, v: Tensor) -> Tensor:
        """Logits of p(h|v): ``(N, visible)`` → ``(N, width)``."""
        return torch.addmm(self.hidden_bias, v, self.weight)

    def visible_logits(self, h: Tensor) -> Tensor:
        """Logits of p(v|h): ``(N, width)`` → ``(N, visible)``."""
        return torch.addmm(self.visible_bias, h, self.weight.T)

    @torch.no_grad()
    def gibbs(self, v: Tensor, rng: RandomStream, steps: int) -> Tensor:
        """Block Gibbs sampling, h given v, then v given h: ``(N, visible)`` zeros and ones."""
        for _ in range(steps):
            h = rng.bernoulli(self.hidden_logits(v).sigmoid())
            v = rng.bernoulli(self.visible_logits(h).sigmoid())
        return v

    @torch.no_grad()
    def pseudo_likelihood(self, v: Tensor, rng: RandomStream) -> Tensor:
        """Estimate of Σ_i log p(v_i | the others) from one unit drawn per row, ``(N,)`` nats.

        visible · log σ(F(v with unit i flipped) − F(v)): a cheap sign of learning.
        """
        place = rng.integers(v.shape[0], 1, high=v.shape[1]).to(v.device)
        flipped = v.scatter(1, place, 1.0 - v.gather(1, place))
        return v.shape[1] * F.logsigmoid(self(flipped) - self(v))
