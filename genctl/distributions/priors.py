"""Distributions over latents. ``geometry`` says which walk stays where the mass is.

``sphere``: lengths concentrate, so slerp; ``flat``: any straight line is as good.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genctl.distributions.gaussian import HALF_LOG_TWO_PI
from genctl.randomness import RandomStream
from genctl.registry import register

Positive = Annotated[float, Field(gt=0)]


class Bounded:
    """Marks a prior that has no density in some places, so that not every posterior fits it."""


@register("prior", "gaussian")
class GaussianPrior:
    """The standard normal, N(0, I)."""

    geometry = "sphere"

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``; the norm is near √latent_dim."""
        return rng.normal(n, self.latent_dim)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, ``(…, latent_dim)`` → ``(…,)`` nats."""
        return (-0.5 * z.square() - HALF_LOG_TWO_PI).sum(-1)


@register("prior", "uniform")
class UniformPrior(Bounded):
    """Uniform on the cube [−1, 1]^latent_dim, as in DCGAN and BEGAN."""

    geometry = "flat"

    def __init__(self, latent_dim: int) -> None:
        self.latent_dim = latent_dim

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)`` in [−1, 1]; the norm is near √(latent_dim / 3)."""
        return 2.0 * rng.uniform(n, self.latent_dim) - 1.0

    def log_prob(self, z: Tensor) -> Tensor:
        """−latent_dim · log 2 inside the cube, −∞ outside: ``(…, latent_dim)`` → ``(…,)`` nats."""
        inside = (z.abs() <= 1.0).all(-1)
        value = z.new_full((), -self.latent_dim * math.log(2.0))
        return torch.where(inside, value, -torch.inf)


@register("prior", "sphere")
class SpherePrior(Bounded):
    """Uniform on the sphere of the given radius in latent_dim dimensions."""

    geometry = "sphere"

    def __init__(self, latent_dim: int, *, radius: Positive = 1.0) -> None:
        self.latent_dim, self.radius = latent_dim, radius

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``, every norm equal to the radius."""
        z = rng.normal(n, self.latent_dim)
        return self.radius * torch.nn.functional.normalize(z, dim=-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density with respect to the sphere's surface, ``(…,)`` nats; −∞ off the sphere.

        The area is 2 π^(d/2) r^(d−1) / Γ(d/2). On the sphere means within 0.1 % of the radius.
        """
        d = self.latent_dim
        area = math.log(2.0) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)
        value = z.new_full((), -area - (d - 1) * math.log(self.radius))
        on = (z.norm(dim=-1) / self.radius - 1.0).abs() <= 1e-3
        return torch.where(on, value, -torch.inf)


@register("prior", "truncated")
class TruncatedPrior(Bounded):
    """The standard normal cut at ±bound in every coordinate."""

    geometry = "sphere"

    def __init__(self, latent_dim: int, *, bound: Positive = 2.0) -> None:
        self.latent_dim, self.bound = latent_dim, bound
        self.mass = math.erf(bound / math.sqrt(2.0))  # of the uncut normal, per coordinate

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)`` in [−bound, bound], by inverting the distribution function."""
        share = 2.0 * rng.uniform(n, self.latent_dim) - 1.0
        z = math.sqrt(2.0) * torch.erfinv(share * self.mass)
        return z.clamp(-self.bound, self.bound)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density, −∞ outside the bound: ``(…, latent_dim)`` → ``(…,)`` nats."""
        terms = -0.5 * z.square() - HALF_LOG_TWO_PI - math.log(self.mass)
        return torch.where((z.abs() <= self.bound).all(-1), terms.sum(-1), -torch.inf)
