"""What a user should hear before a game begins that may well be meant, and will likely go wrong."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils import parametrize

FEW = 500
"""Weights of a discriminator for each image of the set, beyond which it has few."""


def few_images(examples: int, discriminator: nn.Module) -> Iterator[str]:
    """A discriminator learns few pictures by heart."""
    weights = sum(p.numel() for p in discriminator.parameters())
    if weights >= FEW * examples:
        yield (
            f"{examples:,} images are few for a discriminator of {weights:,} weights, which will "
            'learn them by heart: --set model.augment="[colour, translation, cutout]", a smaller '
            "model.discriminator.width, or --init from a run on similar images"
        )


def free_slope(critic: nn.Module) -> Iterator[str]:
    """Wasserstein's value is a distance only for critics of bounded slope; else it has no end."""
    if not holds_its_weights(critic):
        yield (
            "nothing bounds the critic's slope, so its values will grow without end: "
            "--set model.penalty.kind=gradient-penalty, --set model.constraint.kind=weight-clip, "
            "or --set model.discriminator.norm=spectral"
        )


def holds_its_weights(network: nn.Module) -> bool:
    """Whether a layer divides its weights by a norm of theirs."""
    return any(parametrize.is_parametrized(module) for module in network.modules())
