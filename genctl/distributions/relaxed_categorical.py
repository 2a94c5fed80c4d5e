"""Categorical variables with a gradient: the Gumbel-softmax, or Concrete, distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from genctl.randomness import RandomStream


class RelaxedCategorical:
    """softmax((logits + Gumbel noise) / τ) (arXiv:1611.01144, eq. 2; arXiv:1611.00712, eq. 10).

    The largest entry is that of an exact categorical draw at every temperature τ. As τ → 0 draws
    approach one-hot vectors, and their gradient that of the categorical variable's expectation,
    with a variance that grows without bound.

    Args:
        logits: ``(N, …, K)``, unnormalised.
        temperature: τ > 0.
    """

    def __init__(self, logits: Tensor, temperature: float) -> None:
        self.logits, self.temperature = logits, temperature

    def rsample(self, rng: RandomStream) -> Tensor:
        """A point of the simplex for each variable, ``(N, …, K)``."""
        noise = rng.gumbel(self.logits.shape[0], *self.logits.shape[1:]).to(self.logits)
        return torch.softmax((self.logits + noise) / self.temperature, dim=-1)

    def straight_through(self, rng: RandomStream) -> Tensor:
        """One-hot categorical draws with the gradient of ``rsample`` (arXiv:1611.01144, 2.2)."""
        soft = self.rsample(rng)
        hard = one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
        # The bracket is exactly zero, so the vectors are exactly one-hot.
        return hard + (soft - soft.detach())
