"""Independent categorical variables, by their logits."""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.distributions.event import sum_event
from genctl.randomness import RandomStream


class Categorical:
    """Integers 0 … K−1; the last axis of the logits is the classes.

    Args:
        logits: ``(N, …, K)``, unnormalised.
    """

    def __init__(self, logits: Tensor) -> None:
        self.log_probabilities = torch.log_softmax(logits, dim=-1)

    @property
    def mode(self) -> Tensor:
        """The most probable class, ``(N, …)`` int64; the first of equals."""
        return self.log_probabilities.argmax(-1)

    def sample(self, rng: RandomStream) -> Tensor:
        """``(N, …)`` int64, by the Gumbel-max rule."""
        shape = self.log_probabilities.shape
        noise = rng.gumbel(shape[0], *shape[1:])
        return (self.log_probabilities.detach() + noise.to(self.log_probabilities)).argmax(-1)

    def log_prob(self, k: Tensor) -> Tensor:
        """Log-probability of classes ``k`` ``(N, …)`` int64, ``(N,)`` nats."""
        return sum_event(self.log_probabilities.gather(-1, k.unsqueeze(-1)))

    def entropy(self) -> Tensor:
        """Entropy, ``(N,)`` nats."""
        return -sum_event(self._expect(self.log_probabilities))

    def kl(self, other: Categorical) -> Tensor:
        """KL(self ‖ other), ``(N,)`` nats."""
        return sum_event(self._expect(self.log_probabilities - other.log_probabilities))

    def _expect(self, values: Tensor) -> Tensor:
        """Probability times value; classes of probability zero add nothing."""
        probabilities = self.log_probabilities.exp()
        return torch.where(probabilities > 0, probabilities * values, torch.zeros_like(values))
