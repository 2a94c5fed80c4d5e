"""A generative adversarial network whose examples are made of symbols."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genctl.contracts import (
    Adapts,
    ConstraintPart,
    DecoderPart,
    DiscriminatorPart,
    GenerativeModel,
    ObjectivePart,
    PenaltyPart,
    PriorPart,
    Update,
)
from genctl.data.ranges import from_levels, to_levels
from genctl.errors import ConfigError
from genctl.models import cautions
from genctl.models.autoencoder import full_precision
from genctl.models.combinations import refuse_other_scores
from genctl.models.discrete_outputs import OutputPart
from genctl.models.play import PlayPart
from genctl.models.restraints import Restraint
from genctl.models.watching import diversity, per_example, watch
from genctl.networks.layers.joined_noise import joined
from genctl.networks.layers.noise import drawing_layers
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batch, Batches, DataSpec

MOST_LEVELS = 16
"""Symbols at most: the generator gives at least one number for each, at every pixel."""


@register("model", "discrete-gan")
class DiscreteGAN(GenerativeModel):
    """The game of arXiv:1406.2661 over pixels that are symbols, one of K each.

    Given z the symbols are independent, p(x|z) = Π p(xᵢ|z); what couples them is z.
    There is no augmentation: a shade, a mixture or a gap is no symbol.

    Args:
        spec: facts of the data; images of few levels, such as binarised ones.
        latent_dim: size of z.
        output: how the generator's numbers become symbols, and how its gradient comes back.
        generator: network from z to some numbers for each symbol.
        discriminator: network from what it sees of the symbols to a score.
        objective: what the two minimise.
        prior: distribution of z.
        play: how many updates each player makes in a step.
        penalty: added to the discriminator's loss; the slope is that over the relaxed symbols, as
            for the one-hot characters of arXiv:1704.00028, section 5.
        constraint: on the discriminator's weights, after each of its updates.

    Raises:
        ConfigError: the data has too many levels, or the parts do not go together.
    """

    players: Mapping[str, Sequence[str]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    averaged: Sequence[str] = ("generator",)
    gauges: Sequence[str] = ("gumbel/temperature",)

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: Annotated[int, Field(ge=1)] = 64,
        output: OutputPart = default("discrete-output", "reinforce"),
        generator: DecoderPart = default("decoder", "mlp"),
        discriminator: DiscriminatorPart = default("discriminator", "mlp"),
        objective: ObjectivePart = default("objective", "non-saturating"),
        prior: PriorPart = default("prior", "gaussian"),
        play: PlayPart = default("play", "fixed"),
        penalty: PenaltyPart | None = None,
        constraint: ConstraintPart | None = None,
    ) -> None:
        super().__init__()
        require_symbols(spec)
        self.restraint = Restraint(penalty, constraint)
        self.objective = objective()
        if isinstance(self.objective, Adapts):
            problem = "it wants an autoencoder's energies, and symbols have none"
            raise ConfigError("model.objective", [problem], "--set model.objective=non-saturating")
        channels, height, breadth = spec.shape
        self.channels, self.levels = channels, spec.levels
        self.output = output(spec.levels)
        self.generator = generator(latent_dim, (channels * self.output.given, height, breadth))
        self.discriminator = discriminator((channels * self.output.seen, height, breadth))
        refuse_other_scores(self.discriminator, self.objective.output)
        self.restraint.check(self.discriminator)
        self.prior = prior(latent_dim)
        self.play = play()

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Algorithm 1 of arXiv:1406.2661; the output then moves its own state, if it has one."""
        seen: dict[str, Tensor] = {}

        def move_discriminator() -> Tensor:
            loss_fn = functools.partial(self.discriminator_loss, update=update)
            return update("discriminator", loss_fn, next(batches))["loss/discriminator"]

        def move_generator() -> Tensor:
            found = update("generator", functools.partial(self.generator_loss, update))
            seen.update(self.output.adapt(found, update))
            return found["loss/generator"]

        self.play(move_discriminator, move_generator, update)
        return seen

    def discriminator_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E real(D(x)) + E fake(D(G(z))) + λ E penalty."""
        real = self.output.real(to_levels(batch.x, self.levels), update.rng)
        with torch.no_grad():
            z = self.prior.sample(len(batch), update.rng)
            fake = self.output.fake(self.numbers(z), update)
        scores = self._score(real), self._score(fake)  # apart, for batch norm
        loss = self.objective.real(scores[0]).mean() + self.objective.fake(scores[1]).mean()
        cost, metrics = self.restraint.cost(self.discriminator, planes(real), planes(fake), update)
        metrics |= watch(self.objective.output, *(score.detach() for score in scores))
        if update.logging:
            metrics["diversity"] = diversity(fake, real)
        return loss + cost, metrics

    def generator_loss(self, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E generator(D(G(z))) on fresh latents, by the output's estimate of its gradient."""
        z = self.prior.sample(update.batch_size, update.rng)

        def judge(seen: Tensor) -> Tensor:  # several draws for each latent may come at once
            with joined(drawing_layers(self.discriminator), len(seen) // len(z)):
                return self._cost(seen)

        result = self.output.loss(self.numbers(z), judge, update)
        assert isinstance(result, tuple)
        return result

    def numbers(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, C, H, W, given)``, in at least single precision."""
        out = full_precision(self.generator(z))
        return out.unflatten(1, (self.channels, -1)).movedim(2, -1)

    def _score(self, seen: Tensor) -> Tensor:
        """``(N, C, H, W, seen)`` → ``(N,)``."""
        return per_example(self.discriminator(planes(seen)).score)

    def _cost(self, seen: Tensor) -> Tensor:
        """``(N, C, H, W, seen)`` → ``(N,)``, the generator's objective."""
        return self.objective.generator(self._score(seen))

    def after_update(self, player: str) -> None:
        """Put the discriminator's weights back where they may be."""
        if player == "discriminator":
            self.restraint.hold(self.discriminator)

    def warnings(self, examples: int) -> Sequence[str]:
        """A critic whose slope nothing bounds."""
        free = self.objective.output == "critic" and not self.restraint
        return [*cautions.free_slope(self.discriminator)] if free else []

    # --- capabilities ---------------------------------------------------------------------------
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` of exact levels: z from the prior, then symbols from p(x|z)."""
        return self._picture(self.output.draw(self.numbers(self.sample_latent(n, rng)), rng))

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``."""
        return self.prior.sample(n, rng)

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``: the most probable symbols."""
        return self._picture(self.output.mode(self.numbers(z)))

    def _picture(self, symbols: Tensor) -> Tensor:
        return from_levels(symbols, self.levels)


def planes(symbols: Tensor) -> Tensor:
    """``(N, C, H, W, seen)`` → ``(N, C · seen, H, W)``, as the discriminator is given them."""
    return symbols.movedim(-1, 2).flatten(1, 2)


def require_symbols(spec: DataSpec) -> None:
    """Refuse data whose values are no symbols.

    Raises:
        ConfigError: points, or more levels than ``MOST_LEVELS``.
    """
    if spec.kind != "image":
        raise ConfigError(
            "model.kind=discrete-gan", ["points are not made of symbols"], "model.kind=adversarial"
        )
    if spec.levels > MOST_LEVELS:
        raise ConfigError(
            "model.kind=discrete-gan",
            [f"the data has {spec.levels} levels, more than {MOST_LEVELS} symbols"],
            "--set data.binarise=threshold",
        )
