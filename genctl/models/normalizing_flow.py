"""Flows: maximum likelihood with an invertible network, whose latents can be walked in."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from genctl.contracts import DensityPart
from genctl.distributions.priors import GaussianPrior
from genctl.errors import ConfigError
from genctl.models.maximum_likelihood import MaximumLikelihoodModel, uncast
from genctl.randomness import RandomStream
from genctl.registry import register
from genctl.types import Batches, DataSpec


@runtime_checkable
class InvertibleDensity(Protocol):
    """A density that is a bijection between data and standard normal latents of the same number."""

    def initialise(self, x: Tensor, rng: RandomStream) -> None:
        """Data-dependent start from one batch."""

    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, dimensions)``."""

    def decode(self, z: Tensor) -> Tensor:
        """``(N, dimensions)`` → ``(N, *shape)``."""


@register("model", "normalizing-flow")
class NormalizingFlowModel(MaximumLikelihoodModel):
    """Maximum likelihood by change of variables (arXiv:1410.8516, eq. 1), with a latent space.

    Args:
        spec: facts of the data.
        density: an invertible network.
    """

    def __init__(self, spec: DataSpec, *, density: DensityPart) -> None:
        super().__init__(spec, density=density)
        if not isinstance(self.density, InvertibleDensity):
            problem = "this density is not invertible, so it is no flow"
            raise ConfigError("model.density", [problem], "set model.kind to maximum-likelihood")
        self.prior = GaussianPrior(spec.dimensions)

    def initialise(self, batches: Batches, rng: RandomStream) -> None:
        """Let layers that normalise by a first batch see one."""
        self.density.initialise(next(batches).x, rng)

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, dimensions)`` standard normal draws."""
        return self.prior.sample(n, rng)

    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, dimensions)``; images by the middle of each level."""
        with uncast(x.device):
            z: Tensor = self.density.encode(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """``(N, dimensions)`` → ``(N, *shape)``, the inverse of ``encode``."""
        with uncast(z.device):
            x: Tensor = self.density.decode(z)
        return x
