"""BEGAN's objective: energies held in balance (Berthelot et al. 2017, arXiv:1703.10717)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.registry import register


@register("objective", "boundary-equilibrium")
class BoundaryEquilibrium(nn.Module):
    """L_D = L(x) − k·L(G(z_D)), L_G = L(G(z_G)), k ← clip(k + λ(γL(x) − L(G(z_G))), 0, 1).

    The scores are energies L ≥ 0 (reconstruction errors). Section 3.4 of the paper.

    Args:
        gamma: diversity ratio γ = E L(G(z)) / E L(x) that is held.
        lambda_k: step λ of the proportional control.
        k0: k at the start.
    """

    output = "energy"
    gauges: ClassVar[Sequence[str]] = ("began/k",)
    k: Tensor

    def __init__(
        self,
        *,
        gamma: Annotated[float, Field(gt=0, le=1)] = 0.5,
        lambda_k: Annotated[float, Field(gt=0)] = 0.001,
        k0: Annotated[float, Field(ge=0, le=1)] = 0.0,
    ) -> None:
        super().__init__()
        self.gamma, self.lambda_k = gamma, lambda_k
        self.register_buffer("k", torch.tensor(k0))

    def real(self, score: Tensor) -> Tensor:
        """L(x), ``(N,)`` → ``(N,)``."""
        return score

    def fake(self, score: Tensor) -> Tensor:
        """−k·L(G(z_D)), ``(N,)`` → ``(N,)``."""
        return -self.k * score

    def generator(self, score: Tensor) -> Tensor:
        """L(G(z_G)), ``(N,)`` → ``(N,)``."""
        return score

    @torch.no_grad()
    def adapt(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Move k once, after both players' updates.

        Args:
            real: mean L(x) over the whole batch.
            fake: mean L(G(z_G)) over the whole batch.

        Returns:
            ``began/k`` and ``began/m_global`` = L(x) + abs(γL(x) − L(G(z_G))), eq. 6.
        """
        balance = self.gamma * real - fake
        k = (self.k + self.lambda_k * balance).clamp(0.0, 1.0)
        self.k.copy_(torch.where(k.isfinite(), k, self.k))  # one bad batch must not stay in it
        return {"began/k": self.k.clone(), "began/m_global": real + balance.abs()}
