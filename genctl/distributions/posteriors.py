"""What an encoder's output means: the approximate posterior q(z|x), and its KL to the prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from torch import Tensor

from genctl.contracts import Prior
from genctl.distributions.event import Reparameterised
from genctl.distributions.gaussian import Gaussian
from genctl.distributions.priors import GaussianPrior
from genctl.registry import Part, register

LOG_STD_LIMIT = 10.0
"""Posterior log standard deviations are kept within ±10, so that no exponential overflows."""


class Posterior(Protocol):
    """Turns an encoder's outputs into a distribution over latents."""

    outputs: int
    """How many numbers the encoder gives for one example."""

    def __call__(self, statistics: Tensor) -> Reparameterised:
        """``(N, outputs)`` → a distribution over ``(N, latent_dim)``."""


PosteriorPart = Annotated[Callable[[int], Posterior], Part("posterior")]
"""Facts (latent_dim)."""


@register("posterior", "gaussian")
class GaussianPosterior:
    """Diagonal Gaussian; the encoder gives means and log-variances (arXiv:1312.6114, eq. 9)."""

    def __init__(self, latent_dim: int) -> None:
        self.outputs = 2 * latent_dim

    def __call__(self, statistics: Tensor) -> Gaussian:
        """``(N, 2·latent_dim)`` → N(mean, diag σ²)."""
        mean, log_variance = statistics.chunk(2, dim=1)
        return Gaussian(mean, (0.5 * log_variance).clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT))


def divergence(posterior: Reparameterised, prior: Prior, z: Tensor) -> Tensor:
    """KL(posterior ‖ prior), ``(N,)`` nats: exact where a closed form is known.

    Args:
        posterior: q(z|x) of N examples.
        prior: p(z).
        z: ``(N, latent_dim)`` drawn from the posterior, for the one-sample estimate otherwise.
    """
    if isinstance(posterior, Gaussian) and isinstance(prior, GaussianPrior):
        return posterior.kl()
    return posterior.log_prob(z) - prior.log_prob(z)
