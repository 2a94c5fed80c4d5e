"""The logistic distribution, integrated over the bins of equally spaced levels in [−1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from genctl.data.ranges import from_levels, to_levels
from genctl.distributions.event import sum_event, uniform_like
from genctl.randomness import RandomStream


class DiscretisedLogistic:
    """Probabilities of levels: P(k) = σ((x_k + w/2 − μ)/s) − σ((x_k − w/2 − μ)/s).

    The outermost bins reach to ±∞, so the probabilities of all levels sum to 1 (arXiv:1701.05517,
    eq. 2). Values are the levels' places in [−1, 1], spaced by w = 2/(levels − 1).

    Args:
        mean: μ, ``(N, …)``, on the scale of the pictures.
        log_scale: log s, broadcastable to ``mean``.
        levels: number of levels.
    """

    def __init__(self, mean: Tensor, log_scale: Tensor, levels: int = 256) -> None:
        self.mean = mean
        self.log_scale = log_scale.expand_as(mean)
        self.levels = levels

    @property
    def mode(self) -> Tensor:
        """The most probable level of each variable, ``(N, …)`` in [−1, 1]."""
        # Inside the range the nearest level to μ wins; but an outermost bin holds a whole tail.
        low, high = torch.full_like(self.mean, -1.0), torch.full_like(self.mean, 1.0)
        near = from_levels(to_levels(self.mean.clamp(-1.0, 1.0), self.levels), self.levels)
        candidates = torch.stack([near.to(self.mean), low, high])
        scores = torch.stack([self.terms(candidate) for candidate in candidates])
        return candidates.gather(0, scores.argmax(0, keepdim=True)).squeeze(0)

    def sample(self, rng: RandomStream) -> Tensor:
        """``(N, …)`` levels in [−1, 1]."""
        with torch.no_grad():
            tiny = torch.finfo(torch.float32).eps / 4
            u = uniform_like(self.mean, rng).clamp(tiny, 1.0 - torch.finfo(torch.float32).eps)
            x = self.mean + self.log_scale.exp() * torch.logit(u)
            rounded = from_levels(to_levels(x.clamp(-1.0, 1.0), self.levels), self.levels)
            return rounded.to(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the levels ``x`` ``(N, …)`` in [−1, 1], ``(N,)`` nats."""
        return sum_event(self.terms(x))

    def terms(self, x: Tensor) -> Tensor:
        """Log-probability of each variable, ``(N, …)`` nats."""
        # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)): no difference of near-equal numbers anywhere.
        width = 2.0 / (self.levels - 1)
        inverse = torch.exp(-self.log_scale)
        upper = F.logsigmoid((x + 0.5 * width - self.mean) * inverse)
        lower = F.logsigmoid((self.mean - x + 0.5 * width) * inverse)
        inside = upper + lower + torch.log(-torch.expm1(-width * inverse))
        edge = torch.where(x > 0, lower, upper)
        return torch.where(x.abs() > 1.0 - 0.5 * width, edge, inside)
