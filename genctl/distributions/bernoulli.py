"""Independent Bernoulli variables, by their logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from genctl.distributions.event import sum_event
from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.types import DataSpec


class Bernoulli:
    """Zeros and ones; each is 1 with probability σ(logit).

    Args:
        logits: ``(N, …)``.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """Probabilities of a one, ``(N, …)``."""
        return torch.sigmoid(self.logits)

    @property
    def mode(self) -> Tensor:
        """The more probable value, ``(N, …)`` zeros and ones; ties give 0."""
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, rng: RandomStream) -> Tensor:
        """``(N, …)`` zeros and ones."""
        with torch.no_grad():
            return rng.bernoulli(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of zeros and ones ``(N, …)``, ``(N,)`` nats."""
        return -sum_event(F.binary_cross_entropy_with_logits(self.logits, x, reduction="none"))

    def entropy(self) -> Tensor:
        """Entropy, ``(N,)`` nats."""
        return sum_event(F.softplus(self.logits) - self.mean * self.logits)

    def kl(self, other: Bernoulli) -> Tensor:
        """KL(self ‖ other), ``(N,)`` nats."""
        cross = F.softplus(other.logits) - self.mean * other.logits
        return sum_event(cross) - self.entropy()


def require_binary(spec: DataSpec, part: str) -> None:
    """Refuse data that is not of two levels.

    Args:
        spec: the facts of the data.
        part: where in the configuration the binary part is named, ``model.likelihood``.

    Raises:
        ConfigError: the data has more levels, or is points.
    """
    if spec.kind != "image" or spec.levels != 2:
        found = f"images of {spec.levels} levels" if spec.kind == "image" else "points"
        raise ConfigError(
            part,
            [f"needs binarised images, found {found}"],
            "set data.binarise=dynamic (or threshold, fixed), or choose another likelihood",
        )
