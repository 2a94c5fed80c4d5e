"""Normalisations as invertible layers: they know the log-determinant of what they did."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from genctl.networks.layers.batch_norm import along_channels, moments
from genctl.networks.layers.bijection import Bijection

NormKind = Literal["none", "batch", "activation"]


class ActivationNorm(Bijection):
    """A learned scale and shift for each channel, set so that the first batch comes out normal.

    Until ``initialise_next`` has been called and a batch has gone through, it is the identity
    (Glow, arXiv:1807.03039, section 3.1).
    """

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon
        self.initialise_next = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, …)`` → output and log|det| ``(N,)``."""
        if self.initialise_next:
            with torch.no_grad():
                mean, variance = moments(x)
                self.log_scale.copy_(-0.5 * (variance + self.epsilon).log())
                self.shift.copy_(-mean * self.log_scale.exp())
            self.initialise_next = False
        scale, shift = along_channels(x, self.log_scale.exp()), along_channels(x, self.shift)
        return x * scale + shift, _log_det(x, self.log_scale)

    def inverse(self, y: Tensor) -> Tensor:
        """The input that gives ``y``."""
        scale, shift = along_channels(y, self.log_scale.exp()), along_channels(y, self.shift)
        return (y - shift) / scale


class FlowBatchNorm(Bijection):
    """Batch normalisation as a bijection (arXiv:1605.08803, section 3.7, eq. 25).

    In training it uses the moments of the batch, over all ranks, and differentiates through them;
    in evaluation the running ones. Only then is it one fixed bijection, so only then does
    ``inverse`` undo ``forward``.

    Args:
        channels: channels of an image, or variables of a point.
        momentum: share of the new batch in the running moments.
        epsilon: keeps a constant channel from an infinite scale.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.05, epsilon: float = 1e-4) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, …)`` → output and log|det| ``(N,)``."""
        if self.training:
            mean, variance = moments(x)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_variance.lerp_(variance, self.momentum)
        else:
            mean, variance = self.running_mean, self.running_variance
        log_scale = self.log_scale - 0.5 * (variance + self.epsilon).log()
        centred = x - along_channels(x, mean)
        y = centred * along_channels(x, log_scale.exp()) + along_channels(x, self.shift)
        return y, _log_det(x, log_scale)

    def inverse(self, y: Tensor) -> Tensor:
        """The input that gives ``y`` by the running moments."""
        log_scale = self.log_scale - 0.5 * (self.running_variance + self.epsilon).log()
        centred = (y - along_channels(y, self.shift)) * along_channels(y, (-log_scale).exp())
        return centred + along_channels(y, self.running_mean)


def flow_norm(kind: NormKind, channels: int) -> list[Bijection]:
    """The normalisation after a coupling, as a list of no or one layer."""
    if kind == "none":
        return []
    return [FlowBatchNorm(channels) if kind == "batch" else ActivationNorm(channels)]


def _log_det(x: Tensor, log_scale: Tensor) -> Tensor:
    """Every position of a channel is scaled alike: ``(N,)``."""
    positions = x[0, 0].numel()
    return (positions * log_scale.sum()).expand(x.shape[0])
