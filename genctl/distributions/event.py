"""What all distributions here share: one number per example, and noise shaped like a parameter."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from genctl.randomness import RandomStream


class Distribution(Protocol):
    """A distribution over rows ``(N, …)``."""

    def sample(self, rng: RandomStream) -> Tensor:
        """One draw for each row, ``(N, …)``; no gradient through it."""

    def log_prob(self, x: Tensor) -> Tensor:
        """``(N, …)`` → ``(N,)`` nats."""

    @property
    def mode(self) -> Tensor:
        """The most probable value of each row, ``(N, …)``."""


class Reparameterised(Distribution, Protocol):
    """A distribution whose draws are differentiable in its parameters."""

    def rsample(self, rng: RandomStream) -> Tensor:
        """One draw for each row, ``(N, …)``, as a differentiable function of the parameters."""


def sum_event(terms: Tensor) -> Tensor:
    """Sum over all axes but the first: ``(N, …)`` → ``(N,)``."""
    return terms.reshape(terms.shape[0], -1).sum(1)


def normal_like(parameter: Tensor, rng: RandomStream) -> Tensor:
    """Standard normal noise with the shape, type and device of ``parameter``."""
    return rng.normal(parameter.shape[0], *parameter.shape[1:]).to(parameter)


def uniform_like(parameter: Tensor, rng: RandomStream) -> Tensor:
    """Uniform noise on [0, 1) with the shape, type and device of ``parameter``."""
    return rng.uniform(parameter.shape[0], *parameter.shape[1:]).to(parameter)
