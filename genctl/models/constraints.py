"""Constraints on a network's weights, put back in force after every update of its player."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.registry import register


@register("constraint", "weight-clip")
class WeightClip:
    """Every parameter within [−c, c] (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1).

    Args:
        limit: c.
    """

    def __init__(self, *, limit: Annotated[float, Field(gt=0)] = 0.01) -> None:
        self.limit = limit

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        """Clip in place."""
        parameters: list[Tensor] = list(network.parameters())
        torch._foreach_clamp_min_(parameters, -self.limit)
        torch._foreach_clamp_max_(parameters, self.limit)
