"""Batch normalisation over the batch of all ranks (torch's SyncBatchNorm has no CPU path)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genctl.across_ranks import mean_over_ranks, several_ranks


class _OverRanks(nn.modules.batchnorm._BatchNorm):
    """With one process, or in evaluation, torch's own kernel; else moments from a collective."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, …)`` → the same shape and dtype."""
        if not self.training or not several_ranks():
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        mean, variance = moments(wide)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            count = x.numel() // x.shape[1] * dist.get_world_size()
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / max(1, count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return (wide * along_channels(x, scale) + along_channels(x, shift)).to(x.dtype)


class BatchNorm1d(_OverRanks, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` for ``(N, C)``."""


class BatchNorm2d(_OverRanks, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` for ``(N, C, H, W)``."""


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over the batch of all ranks, differentiable."""
    axes = [0, *range(2, x.dim())]
    if not several_ranks():
        return x.mean(axes), x.var(axes, correction=0)
    # Two passes: the mean of squares minus the squared mean loses what a quiet channel needs.
    mean = mean_over_ranks(x.mean(axes))
    return mean, mean_over_ranks((x - along_channels(x, mean)).square().mean(axes))


def along_channels(x: Tensor, values: Tensor) -> Tensor:
    """``(C,)`` shaped so that it spreads over ``x`` ``(N, C, …)``."""
    return values.view(-1, *[1] * (x.dim() - 2))
