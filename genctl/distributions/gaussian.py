"""The Gaussian with a diagonal covariance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genctl.distributions.event import normal_like, sum_event
from genctl.randomness import RandomStream

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Gaussian:
    """N(mean, diag(exp(log_std))²) for each row.

    Args:
        mean: ``(N, …)``.
        log_std: logarithm of the standard deviations, broadcastable to ``mean``.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std.expand_as(mean)

    @property
    def mode(self) -> Tensor:
        """The mean, ``(N, …)``."""
        return self.mean

    def rsample(self, rng: RandomStream) -> Tensor:
        """Mean + std · ε with ε ~ N(0, 1) (arXiv:1312.6114, section 2.4)."""
        return self.mean + self.log_std.exp() * normal_like(self.mean, rng)

    def sample(self, rng: RandomStream) -> Tensor:
        """A draw without a gradient, ``(N, …)``."""
        with torch.no_grad():
            return self.rsample(rng)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of ``x`` ``(N, …)``, ``(N,)`` nats."""
        standard = (x - self.mean) * torch.exp(-self.log_std)
        return sum_event(-0.5 * standard.square() - self.log_std - HALF_LOG_TWO_PI)

    def entropy(self) -> Tensor:
        """Differential entropy, ``(N,)`` nats."""
        return sum_event(self.log_std + HALF_LOG_TWO_PI + 0.5)

    def kl(self, other: Gaussian | None = None) -> Tensor:
        """KL(self ‖ other), ``(N,)`` nats; the standard normal when ``other`` is not given.

        The standard case is appendix B of arXiv:1312.6114.
        """
        if other is None:
            return sum_event(
                0.5 * (self.mean.square() + torch.exp(2.0 * self.log_std) - 1.0) - self.log_std
            )
        shift = (self.mean - other.mean) * torch.exp(-other.log_std)
        log_ratio = self.log_std - other.log_std
        return sum_event(0.5 * (torch.exp(2.0 * log_ratio) + shift.square() - 1.0) - log_ratio)
