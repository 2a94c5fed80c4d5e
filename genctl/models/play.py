"""Who moves when in a two-player game: a fixed rhythm, or whoever is behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.contracts import Update
from genctl.errors import ConfigError
from genctl.registry import Part, register

Move = Callable[[], Tensor]
"""Makes one update of a player and returns the loss it was made on, a scalar on the device."""

PlayPart = Annotated[Callable[[], nn.Module], Part("play")]
"""Called with a move of each player and the update, it makes the moves of a step."""

AtLeastOne = Annotated[int, Field(ge=1)]


@register("play", "fixed")
class Fixed(nn.Module):
    """k discriminator updates, then m generator updates (arXiv:1406.2661, algorithm 1).

    Args:
        discriminator: updates of the discriminator in a step.
        generator: updates of the generator in a step.
    """

    def __init__(self, *, discriminator: AtLeastOne = 1, generator: AtLeastOne = 1) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator

    def forward(self, discriminator: Move, generator: Move, update: Update) -> None:
        """Make this step's moves."""
        for _ in range(self.discriminator):
            discriminator()
        for _ in range(self.generator):
            generator()


@register("play", "simultaneous")
class Simultaneous(nn.Module):
    """One update each from the same weights: both gradients first, then both steps.

    Simultaneous gradient descent on a game need not come nearer to its equilibrium: on V = xy it
    spirals out by √(1 + η²) a step, where moves in turn stay on a bounded orbit.
    """

    def forward(self, discriminator: Move, generator: Move, update: Update) -> None:
        """Make this step's moves."""
        with update.at_once():
            discriminator()
            generator()


@register("play", "adaptive")
class Adaptive(nn.Module):
    """While loss_D > t_D train D, then while loss_G > t_G train G, each within bounds.

    A threshold is absolute, or a multiple of the moving average of that player's own loss; where
    losses fall below zero, as a critic's do, only a multiple of 1 means the same on both sides. The
    loop reads losses by value, so each move synchronises with the device.

    Args:
        discriminator: threshold t_D.
        generator: threshold t_G.
        relative: ``loss`` compares with the number itself, ``average`` with its product with the
            moving average of the loss.
        decay: of the moving averages.
        least: moves each player makes in every step.
        most: moves a player makes at most in a step.

    Raises:
        ConfigError: ``least`` is more than ``most``.
    """

    average: Tensor

    def __init__(
        self,
        *,
        discriminator: float = 1.0,
        generator: float = 1.0,
        relative: Literal["loss", "average"] = "loss",
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        least: AtLeastOne = 1,
        most: AtLeastOne = 5,
    ) -> None:
        super().__init__()
        if least > most:
            raise ConfigError(
                "model.play.least",
                [f"{least} moves at least, and {most} at most"],
                f"--set model.play.most={least}",
            )
        self.thresholds = (discriminator, generator)
        self.relative, self.decay, self.least, self.most = relative, decay, least, most
        # For each player: its last loss, the moving average, and whether it has moved at all.
        self.register_buffer("average", torch.zeros(2, 3))

    def forward(self, discriminator: Move, generator: Move, update: Update) -> None:
        """Make this step's moves."""
        self._turn(0, discriminator, update)
        self._turn(1, generator, update)

    def _turn(self, player: int, move: Move, update: Update) -> None:
        last, mean, moved = self.average[player].tolist()
        for made in range(self.most):
            limit = self.thresholds[player] * (mean if self.relative == "average" else 1.0)
            if made >= self.least and moved and last <= limit:
                break
            loss = update.read(move())
            if not math.isfinite(loss):
                continue  # the update was skipped, and its loss must not stay in the average
            mean = self.decay * mean + (1.0 - self.decay) * loss if moved else loss
            last, moved = loss, 1.0
        self.average[player] = torch.tensor([last, mean, moved])
