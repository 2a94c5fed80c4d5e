"""Statistics of the whole batch where every process holds a part of it, differentiable.

A loss that couples the examples of a batch is computed by every rank on the whole. Gradients are
averaged over ranks after the backward pass, which the sums here account for.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def several_ranks() -> bool:
    """Whether other processes hold parts of the batch."""
    return dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of every rank's ``x``, differentiable as often as needed."""
    if not several_ranks():
        return x
    total: Tensor = _SumOverRanks.apply(x)
    return total


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of every rank's ``x``: of batch means, the mean of the whole batch."""
    return sum_over_ranks(x) / dist.get_world_size() if several_ranks() else x


def rows_of_all_ranks(x: Tensor) -> Tensor:
    """``(n, …)`` of every rank → ``(ranks · n, …)`` in the order of the whole batch."""
    if not several_ranks():
        return x
    parts = [torch.zeros_like(x) for _ in range(dist.get_world_size())]
    parts[dist.get_rank()] = x
    return sum_over_ranks(torch.cat(parts))


class _SumOverRanks(torch.autograd.Function):
    """y = Σᵣ xᵣ on every rank, so ∂ΣL/∂x = Σᵣ ∂Lᵣ/∂y: the backward is the same sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients[0])
