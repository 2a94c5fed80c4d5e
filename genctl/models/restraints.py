"""What holds a discriminator back: a penalty in its loss, or a constraint on its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genctl.contracts import ConstraintPart, PenaltyPart, Update
from genctl.errors import ConfigError
from genctl.models.combinations import refuse_a_clip_that_is_divided_out
from genctl.models.watching import per_example
from genctl.networks.layers.input_gradient import (
    input_gradient,
    piecewise_linear,
    transposed_chain,
)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _score(out: Any) -> Tensor:
    return per_example(out.score)


class Restraint:
    """A penalty on a discriminator's slope or a constraint on its weights, or neither.

    Args:
        penalty: in the discriminator's loss, of its own updates.
        constraint: put in force after each of them.

    Raises:
        ConfigError: both at once.
    """

    def __init__(self, penalty: PenaltyPart | None, constraint: ConstraintPart | None) -> None:
        if penalty is not None and constraint is not None:
            raise ConfigError(
                "model.constraint",
                ["clipped weights cannot reach the slope that model.penalty asks for"],
                "--set model.constraint=null, or --set model.penalty=null",
            )
        self.penalty = None if penalty is None else penalty()
        self.constraint = None if constraint is None else constraint()

    def __bool__(self) -> bool:
        return self.penalty is not None or self.constraint is not None

    def check(self, network: nn.Module) -> None:
        """Refuse a discriminator that cannot be held so.

        Raises:
            ConfigError: its layers undo the clip, or it has no slope at a single example.
        """
        refuse_a_clip_that_is_divided_out(self.constraint is not None, network)
        if self.penalty is not None:
            self.penalty.check(network)

    def cost(
        self,
        network: nn.Module,
        real: Tensor,
        fake: Tensor,
        update: Update,
        *,
        beside: Callable[[Tensor], Tensor] = _as_it_is,
        score: Callable[[Any], Tensor] = _score,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """λ E penalty, and E penalty as a metric; zero and none where there is no penalty.

        Outside autocast, unless the penalty says otherwise.

        Args:
            network: the discriminator.
            real: real examples, ``(N, *shape)``.
            fake: generated ones.
            update: the noise of this update.
            beside: puts what else the network is given, such as labels, behind the channels.
            score: the network's output → ``(N,)``.
        """
        if self.penalty is None:
            return real.new_zeros(()), {}

        def slope(x: Tensor) -> Tensor:
            return slope_of(network, x, beside, score)

        kind = real.device.type
        enabled = self.penalty.precision == "autocast" and torch.is_autocast_enabled(kind)
        with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=enabled):
            penalty = self.penalty(slope, real, fake.to(real.dtype), update).mean()
        return self.penalty.weight * penalty, {f"penalty/{self.penalty.name}": penalty}

    def hold(self, network: nn.Module) -> None:
        """Put the constraint in force again, in place."""
        if self.constraint is not None:
            self.constraint(network)


def slope_of(
    network: nn.Module,
    x: Tensor,
    beside: Callable[[Tensor], Tensor] = _as_it_is,
    score: Callable[[Any], Tensor] = _score,
) -> Tensor:
    """∇ of each example's score, ``(N, *shape)``, by the cheapest exact way."""
    layers = piecewise_linear(network)
    if layers is not None:
        return transposed_chain(layers, beside(x))[:, : x.shape[1]]
    # ``forward`` passes by a compiled call, which could not be differentiated twice.
    return input_gradient(lambda x: score(network.forward(beside(x))), x)
