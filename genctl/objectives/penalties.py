"""Penalties on the slope of a discriminator, one number per example, unweighted."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.batch_coupling import coupling_layer
from genctl.contracts import Slope, Update
from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.registry import register

Weight = Annotated[float, Field(ge=0)]

_WITHOUT = {
    "batch norm": "--set model.discriminator.norm=layer, or kind=conv-critic",
    "minibatch discrimination": "--set model.discriminator.minibatch_kernels=0",
}


class _SlopeAt:
    """(‖∇D(x̂)‖ − target)², the norm over all variables of an example; where x̂ is, a subclass says.

    Args:
        weight: λ; 10 for images, 0.1 for toys.
        target: the norm that is held.
        precision: ``fp32``, or ``autocast``: products in the run's precision, norms in float32.
    """

    name = "gradient"

    def __init__(
        self,
        *,
        weight: Weight = 10.0,
        target: Weight = 1.0,
        precision: Literal["fp32", "autocast"] = "fp32",
    ) -> None:
        self.weight, self.target, self.precision = weight, target, precision

    def check(self, network: nn.Module) -> None:
        """Where the examples of a batch are coupled, none of them has a slope of its own.

        Raises:
            ConfigError: the network has such a layer.
        """
        coupling = coupling_layer(network)
        if coupling is not None:
            raise ConfigError(
                "model.penalty",
                [
                    f"the discriminator has {coupling}, which couples the examples of a batch: "
                    "the slope at one example is not defined"
                ],
                _WITHOUT.get(coupling.partition(" (")[0], "a discriminator without it")
                + ", or --set model.penalty=null",
            )

    def _at(self, slope: Slope, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N,)``."""
        gradient = slope(x).flatten(1)
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        # Zero has a subgradient here, where the root of a sum of squares would give NaN.
        return (torch.linalg.vector_norm(wide, dim=1) - self.target).square()


@register("penalty", "gradient-penalty")
class GradientPenalty(_SlopeAt):
    """Between real and generated examples (WGAN-GP, arXiv:1704.00028, eq. 3, algorithm 1).

    x̂ = εx + (1−ε)G(z) with one ε from U[0, 1] for each example.
    """

    def __call__(self, slope: Slope, real: Tensor, fake: Tensor, update: Update) -> Tensor:
        """Both ``(N, *shape)`` → ``(N,)``."""
        return self._at(slope, interpolate(real, fake, update.rng))


@register("penalty", "dragan")
class DraganPenalty(_SlopeAt):
    """Around real examples (Kodali et al. 2017, arXiv:1705.07215, section 3).

    x̂ = x + α·½·std(X)·u with one α from U[0, 1] for each example, u from U[0, 1] for each variable,
    and std(X) the deviation of all values of the batch.
    """

    name = "dragan"

    def __call__(self, slope: Slope, real: Tensor, fake: Tensor, update: Update) -> Tensor:
        """Real examples ``(N, *shape)`` → ``(N,)``; generated ones are not looked at."""
        mean = update.mean(real.mean())
        deviation = update.mean((real - mean).square().mean()).sqrt()
        noise = update.rng.uniform(*real.shape).to(real)
        share = update.rng.uniform(len(real), *[1] * (real.dim() - 1)).to(real)
        return self._at(slope, real + share * 0.5 * deviation * noise)


def interpolate(real: Tensor, fake: Tensor, rng: RandomStream) -> Tensor:
    """A random point between each pair of examples, both ``(N, *shape)`` → ``(N, *shape)``."""
    share = rng.uniform(len(real), *[1] * (real.dim() - 1)).to(real)
    return torch.lerp(fake, real, share)
