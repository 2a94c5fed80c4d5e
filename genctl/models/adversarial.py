"""The adversarial game: every GAN whose novelty is a network, an objective or a schedule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from genctl.contracts import (
    Adapts,
    ConstraintPart,
    DiscriminatorPart,
    GenerativeModel,
    GeneratorPart,
    ObjectivePart,
    PenaltyPart,
    PriorPart,
    Update,
)
from genctl.errors import ConfigError
from genctl.models.history import HistoryPool
from genctl.networks.layers.input_gradient import (
    input_gradient,
    piecewise_linear,
    transposed_chain,
)
from genctl.randomness import RandomStream
from genctl.registry import Part, default, register
from genctl.types import Batch, Batches, DataSpec

PlayPart = Annotated[Callable[[], nn.Module], Part("play")]

DIVERSITY_SAMPLE = 64
"""Examples of a batch that the diversity is measured on: pairs grow with the square."""


@register("model", "adversarial")
class AdversarialModel(GenerativeModel):
    """Algorithm 1 of Goodfellow et al. 2014 (arXiv:1406.2661), with every part exchangeable.

    Args:
        spec: the data's facts.
        latent_dim: size of z.
        generator: network from z to an example.
        discriminator: network from an example to a score.
        objective: what the two minimise.
        prior: distribution of z.
        play: how many updates each player makes in a step.
        history: size of the pool of past fakes that half of the discriminator's come from; 0: none.
        penalty: added to the discriminator's loss.
        constraint: on the discriminator's weights, after each of its updates.

    Raises:
        ConfigError: the parts do not go together.
    """

    players: Mapping[str, Sequence[str]] = {
        "discriminator": ("discriminator",),
        "generator": ("generator",),
    }
    averaged: Sequence[str] = ("generator",)

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: Annotated[int, Field(ge=1)] = 100,
        generator: GeneratorPart,
        discriminator: DiscriminatorPart,
        objective: ObjectivePart = default("objective", "non-saturating"),
        prior: PriorPart = default("prior", "gaussian"),
        play: PlayPart = default("play", "fixed"),
        history: Annotated[int, Field(ge=0)] = 0,
        penalty: PenaltyPart | None = None,
        constraint: ConstraintPart | None = None,
    ) -> None:
        super().__init__()
        if penalty is not None and constraint is not None:
            raise ConfigError(
                "model.constraint",
                ["clipped weights cannot reach the slope that model.penalty asks for"],
                "--set model.constraint=null, or --set model.penalty=null",
            )
        self.spec = spec
        self.penalty = None if penalty is None else penalty()
        self.constraint = None if constraint is None else constraint()
        self.generator = generator(latent_dim, spec.shape)
        self.discriminator = discriminator(spec.shape)
        if self.penalty is not None:
            self.penalty.check(self.discriminator)
        self.apart = any(isinstance(m, _BatchNorm) for m in self.discriminator.modules())
        self.objective = objective()
        self.prior = prior(latent_dim)
        self.play = play()
        self.history = HistoryPool(spec.shape, history) if history else None
        self.gauges = getattr(self.objective, "gauges", ())

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Some discriminator updates on fresh batches, then some generator updates."""
        seen: dict[str, Tensor] = {}

        def move_discriminator() -> Tensor:
            loss_fn = functools.partial(self.discriminator_loss, update=update)
            seen.update(update("discriminator", loss_fn, next(batches)))
            return seen["loss/discriminator"]

        def move_generator() -> Tensor:
            loss_fn = functools.partial(self.generator_loss, update.batch_size, update.rng)
            seen.update(update("generator", loss_fn))
            return seen["loss/generator"]

        self.play(move_discriminator, move_generator, update)
        return self._adapt(seen, update)

    def discriminator_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E real(D(x)) + E fake(D(G(z))) + λ E penalty."""
        with torch.no_grad():
            fake = self.generator(self.prior.sample(len(batch), update.rng))
        shown = fake if self.history is None else self.history.exchange(fake, update)
        real_score, fake_score = self._scores(batch.x, shown)
        loss = self.objective.real(real_score).mean() + self.objective.fake(fake_score).mean()
        metrics = self._watch(real_score.detach(), fake_score.detach())
        if self.penalty is not None:
            penalty = self._penalise(batch.x, shown, update.rng)
            loss = loss + self.penalty.weight * penalty
            metrics[f"penalty/{self.penalty.name}"] = penalty
        if update.logging:
            metrics["diversity"] = diversity(fake.float(), batch.x)
        return loss, metrics

    def generator_loss(self, n: int, rng: RandomStream) -> tuple[Tensor, dict[str, Tensor]]:
        """E generator(D(G(z))) on fresh latents."""
        score = _per_example(self.discriminator(self.generator(self.prior.sample(n, rng))).score)
        return self.objective.generator(score).mean(), {"score/generator": score.detach().mean()}

    def _scores(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """``(N,)`` each. Batch norm must see real and generated examples apart; else one pass."""
        if not self.apart:
            both = _per_example(self.discriminator(torch.cat([real, fake.to(real.dtype)])).score)
            return both[: len(real)], both[len(real) :]
        real_score = _per_example(self.discriminator(real).score)
        return real_score, _per_example(self.discriminator(fake).score)

    def after_update(self, player: str) -> None:
        """Put the discriminator's weights back where they are allowed to be."""
        if self.constraint is not None and player == "discriminator":
            self.constraint(self.discriminator)

    def _penalise(self, real: Tensor, fake: Tensor, rng: RandomStream) -> Tensor:
        """Mean of the penalty, unweighted; outside autocast unless it says otherwise."""
        assert self.penalty is not None
        kind = real.device.type
        enabled = self.penalty.precision == "autocast" and torch.is_autocast_enabled(kind)
        with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=enabled):
            return self.penalty(self._slope, real, fake.to(real.dtype), rng).mean()

    def _slope(self, x: Tensor) -> Tensor:
        """∇ of each example's score, ``(N, *shape)``, by the cheapest exact way."""
        layers = piecewise_linear(self.discriminator)
        if layers is not None:
            return transposed_chain(layers, x)
        # ``forward`` passes by a compiled call, which could not be differentiated twice.
        return input_gradient(lambda x: _per_example(self.discriminator.forward(x).score), x)

    # --- capabilities ---------------------------------------------------------------------------
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` from the prior through the generator."""
        return self.decode(self.sample_latent(n, rng))

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``."""
        return self.prior.sample(n, rng)

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``; energies know no bound, so images are clamped."""
        out: Tensor = self.generator(z)
        return out.clamp(-1.0, 1.0) if self.spec.kind == "image" else out

    def discriminator_features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, F)``."""
        features: Tensor = self.discriminator(x).features
        return features

    # --- metrics --------------------------------------------------------------------------------
    def _watch(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Mean σ(D) where D classifies, mean critic value or energy where it does not."""
        if self.objective.output != "logit":
            means = {"score/real": real.mean(), "score/fake": fake.mean()}
            gap = {"wasserstein": means["score/real"] - means["score/fake"]}
            return means | (gap if self.objective.output == "critic" else {})
        hits = torch.cat([real > 0, fake < 0]).float()
        return {
            "score/real": real.sigmoid().mean(),
            "score/fake": fake.sigmoid().mean(),
            "accuracy/discriminator": hits.mean(),
        }

    def _adapt(self, seen: dict[str, Tensor], update: Update) -> dict[str, Tensor]:
        """Let an objective with a state of its own (BEGAN's k) move it, equally on all ranks."""
        if not isinstance(self.objective, Adapts) or "score/generator" not in seen:
            return {}
        real, fake = update.mean(seen["score/real"]), update.mean(seen["score/generator"])
        return self.objective.adapt(real, fake)


def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """Mean pairwise distance inside a fake batch over that inside a real batch; a scalar."""
    if len(real) < 2:
        return torch.ones((), device=real.device)
    spread = [_spread(x[:DIVERSITY_SAMPLE].flatten(1).float()) for x in (fake, real)]
    return spread[0] / spread[1].clamp_min(1e-12)


def _spread(x: Tensor) -> Tensor:
    """Mean distance of two different rows; without the quick formula that misjudges equal rows."""
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum() / (len(x) * (len(x) - 1))


def _per_example(score: Tensor) -> Tensor:
    """``(N, …)`` → ``(N,)``: patch scores are averaged over the patches of an example."""
    return score.flatten(1).mean(1) if score.dim() > 1 else score
