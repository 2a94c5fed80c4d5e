"""Penalties on the slope of a discriminator, one number per example, unweighted."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from genctl.contracts import Slope
from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.registry import register

Weight = Annotated[float, Field(ge=0)]


@register("penalty", "gradient-penalty")
class GradientPenalty:
    """(‖∇f(x̂)‖ − 1)² between real and generated examples (arXiv:1704.00028, eq. 3, algorithm 1).

    x̂ = εx + (1−ε)G(z) with one ε from U[0, 1] for each example; the norm is over all variables of
    an example.

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
        """Batch norm couples the examples of a batch, so that no example has a slope of its own.

        Raises:
            ConfigError: the network has such a layer.
        """
        for name, layer in network.named_modules():
            if isinstance(layer, _BatchNorm):
                raise ConfigError(
                    "model.penalty",
                    [
                        f"the discriminator has batch norm (layer {name}), whose statistics couple "
                        "the examples of a batch: the slope at one example is not defined"
                    ],
                    "--set model.discriminator.kind=conv-critic (or mlp), or no penalty",
                )

    def __call__(self, slope: Slope, real: Tensor, fake: Tensor, rng: RandomStream) -> Tensor:
        """Both ``(N, *shape)`` → ``(N,)``."""
        gradient = slope(interpolate(real, fake, rng)).flatten(1)
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        # Zero has a subgradient here, where the root of a sum of squares would give NaN.
        return (torch.linalg.vector_norm(wide, dim=1) - self.target).square()


def interpolate(real: Tensor, fake: Tensor, rng: RandomStream) -> Tensor:
    """A random point between each pair of examples, both ``(N, *shape)`` → ``(N, *shape)``."""
    share = rng.uniform(len(real), *[1] * (real.dim() - 1)).to(real)
    return torch.lerp(fake, real, share)
