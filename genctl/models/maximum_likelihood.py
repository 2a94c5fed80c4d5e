"""Models whose network knows log p(x): autoregressive networks and flows."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from genctl.contracts import DensityPart, GenerativeModel, Update
from genctl.data.ranges import nats_to_bits_per_dim
from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.registry import register
from genctl.types import Batch, Batches, DataSpec, Likelihood, LikelihoodKind


@runtime_checkable
class Density(Protocol):
    """What a network in the slot ``density`` offers.

    Attributes:
        likelihood_kind: what ``log_prob`` is: exact, or a lower bound.
    """

    likelihood_kind: LikelihoodKind

    def log_prob(self, x: Tensor, rng: RandomStream) -> Tensor:
        """``(N, *shape)`` → ``(N,)`` nats; rng is for dequantisation only."""

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, *shape)`` images in [−1, 1] or points."""


@runtime_checkable
class CompletingDensity(Protocol):
    """A density that can draw some variables given others."""

    def complete(self, x: Tensor, mask: Tensor, rng: RandomStream) -> Tensor:
        """Keeps ``x`` where ``mask`` ``(N, 1, H, W)`` is 1 and draws the rest."""


def uncast(device: torch.device) -> torch.autocast:
    """Reduced precision off: neither a sampler nor a stated likelihood may round."""
    return torch.autocast(device.type, enabled=False)


@register("model", "maximum-likelihood")
class MaximumLikelihoodModel(GenerativeModel):
    """Minimises −log p(x), in nats for one example.

    The loss is the sum over an example's variables, not their mean: an image of 784 variables has a
    loss and gradients 784 times those of bits per dimension. ``train.clip`` is in that unit; Adam's
    step does not depend on it. ``bits_per_dim`` is logged beside it for images.

    Args:
        spec: facts of the data.
        density: the network that knows log p(x).
    """

    players = {"density": ("density",)}  # noqa: RUF012
    averaged = ("density",)

    def __init__(self, spec: DataSpec, *, density: DensityPart) -> None:
        super().__init__()
        self.spec = spec
        self.density = density(spec)

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """One step of maximum likelihood on one batch."""
        update("density", lambda batch: self.loss(batch, update.rng), next(batches))
        return {}

    def loss(self, batch: Batch, rng: RandomStream) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of −log p(x) over the batch, in nats, and the same in bits per dimension."""
        nats = -self.density.log_prob(batch.x, rng).mean()
        if self.spec.kind != "image":
            return nats, {}
        return nats, {"bits_per_dim": nats_to_bits_per_dim(nats, self.spec.dimensions)}

    @torch.no_grad()
    def log_likelihood(self, batch: Batch, rng: RandomStream) -> Likelihood:
        """``(N,)`` nats: of the integer levels for images, a log-density for points."""
        with uncast(batch.x.device):
            values = self.density.log_prob(batch.x, rng)
        bound = self.density.likelihood_kind == "lower_bound"
        detail = "uniform dequantisation, one draw" if bound else ""
        return Likelihood(values, self.density.likelihood_kind, detail)

    @torch.no_grad()
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` independent draws."""
        with uncast(rng.device):
            drawn: Tensor = self.density.sample(n, rng)
        return drawn


@register("model", "autoregressive")
class AutoregressiveModel(MaximumLikelihoodModel):
    """Maximum likelihood with a network that draws variable by variable, so it also completes.

    Args:
        spec: facts of the data.
        density: an autoregressive network.
    """

    def __init__(self, spec: DataSpec, *, density: DensityPart) -> None:
        super().__init__(spec, density=density)
        if not isinstance(self.density, CompletingDensity):
            problem = "this density cannot complete, so it is not autoregressive"
            raise ConfigError("model.density", [problem], "set model.kind to maximum-likelihood")

    @torch.no_grad()
    def complete(self, x: Tensor, mask: Tensor, rng: RandomStream) -> Tensor:
        """Keeps ``x`` where ``mask`` ``(N, 1, H, W)`` is 1, draws the rest."""
        with uncast(x.device):
            filled: Tensor = self.density.complete(x, mask, rng)
        return filled
