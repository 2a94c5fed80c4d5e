"""The adversarial game: every GAN whose novelty is a network, an objective or a schedule."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genctl.batch_coupling import couples_examples
from genctl.contracts import (
    Adapts,
    ConstraintPart,
    DiscriminatorPart,
    GenerativeModel,
    GeneratorPart,
    ObjectivePart,
    PenaltyPart,
    PriorPart,
    TermPart,
    Update,
)
from genctl.models import cautions
from genctl.models.augmentation import Kind, augment
from genctl.models.combinations import (
    refuse_augmented_points,
    refuse_other_scores,
    refuse_what_does_not_go_together,
)
from genctl.models.historical_averaging import HistoricalAverage
from genctl.models.history import HistoryPool
from genctl.models.labels import Labels
from genctl.models.play import PlayPart
from genctl.models.restraints import Restraint
from genctl.models.unrolled import (
    Judgement,
    is_zero_sum,
    refuse_what_does_not_unroll,
    unrolled_loss,
)
from genctl.models.watching import diversity, per_example, watch
from genctl.networks.layers.noise import drawing_layers
from genctl.networks.layers.virtual_batch_norm import choose_references, first_examples
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batch, Batches, DataSpec, Discrimination


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
        conditional: both networks are given the label (Mirza & Osindero 2014, arXiv:1411.1784).
        history: size of the pool of past fakes that half of the discriminator's come from; 0: none.
        penalty: added to the discriminator's loss.
        constraint: on the discriminator's weights, after each of its updates.
        terms: added to the generator's loss.
        historical_averaging: weight of each player's distance from the mean of its own past.
        augment: differentiable changes of all that the discriminator sees, for few images.
        unroll: k, discriminator steps that the generator looks ahead (arXiv:1611.02163); 0: none.

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
        conditional: bool = False,
        history: Annotated[int, Field(ge=0)] = 0,
        penalty: PenaltyPart | None = None,
        constraint: ConstraintPart | None = None,
        terms: Sequence[TermPart] = (),
        historical_averaging: Annotated[float, Field(ge=0)] = 0.0,
        augment: tuple[Kind, ...] = (),
        unroll: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__()
        self.spec, self.conditional = spec, conditional
        self.labels = Labels(spec) if conditional else None
        self.restraint = Restraint(penalty, constraint)
        self.terms = [term() for term in terms]
        self.augment = augment
        refuse_what_does_not_go_together(
            conditional=conditional,
            history=history > 0,
            replacing_terms=sum(term.replaces for term in self.terms),
        )
        refuse_augmented_points(bool(augment), spec)
        if unroll:
            refuse_what_does_not_unroll(constraint is not None, bool(terms))
        seen = self.labels.seen if self.labels else spec.shape
        given = self.labels.given if self.labels else 0
        self.generator = generator(latent_dim + given, spec.shape)
        self.discriminator = discriminator(seen)
        self.objective = objective()
        self.unroll, self.zero_sum = unroll, unroll > 0 and is_zero_sum(self.objective)
        refuse_other_scores(self.discriminator, self.objective.output)
        self.restraint.check(self.discriminator)
        coupled = couples_examples(self.discriminator)
        self.apart = coupled or bool(drawing_layers(self.discriminator))
        self.prior = prior(latent_dim)
        self.play = play()
        self.history = HistoryPool(spec.shape, history) if history else None
        self.past = None
        if historical_averaging:
            self.past = HistoricalAverage(self, self.players, historical_averaging)
        self.gauges = getattr(self.objective, "gauges", ())

    def initialise(self, batches: Batches, rng: RandomStream) -> None:
        """Choose what virtual batch norm refers to: latents, and real examples."""
        seen = (self._with_labels(batch.x, batch.y) for batch in batches)
        choose_references(self.generator, lambda n: self.sample_latent(n, rng))
        choose_references(self.discriminator, lambda n: first_examples(seen, n))

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Some discriminator updates on fresh batches, then some generator updates."""
        seen: dict[str, Tensor] = {}
        last: Batch | None = None

        def move_discriminator() -> Tensor:
            nonlocal last
            last = next(batches)
            loss_fn = functools.partial(self.discriminator_loss, update=update)
            seen.update(update("discriminator", loss_fn, last))
            return seen["loss/discriminator"]

        def move_generator() -> Tensor:
            compared = any(term.compares for term in self.terms)
            batch = next(batches) if compared else last if self.unroll else None
            ahead = self.unrolled_loss if self.unroll else self.generator_loss
            seen.update(update("generator", functools.partial(ahead, update=update), batch))
            return seen["loss/generator"]

        self.play(move_discriminator, move_generator, update)
        return self._adapt(seen, update)

    def discriminator_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E real(D(x)) + E fake(D(G(z))) + λ E penalty."""
        with torch.no_grad():
            fake = self._generate(self.prior.sample(len(batch), update.rng), batch.y)
        shown = fake if self.history is None else self.history.exchange(fake, update)
        real, shown = self._shown(batch.x, update), self._shown(shown, update)
        found = self._judge(real, shown, batch.y, update)
        metrics = found.metrics | watch(
            self.objective.output, found.real.detach(), found.fake.detach()
        )
        if update.logging:
            metrics["diversity"] = diversity(fake.float(), batch.x)
        return found.loss, metrics

    def _judge(self, real: Tensor, fake: Tensor, y: Tensor | None, update: Update) -> Judgement:
        real_score, fake_score = self._scores(real, fake, y)
        loss = self.objective.real(real_score).mean() + self.objective.fake(fake_score).mean()
        beside = functools.partial(self._with_labels, y=y)
        cost, metrics = self.restraint.cost(self.discriminator, real, fake, update, beside=beside)
        loss = self._with_past("discriminator", loss + cost)
        return Judgement(loss, real_score, fake_score, metrics)

    def generator_loss(
        self, batch: Batch | None = None, *, update: Update
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """E generator(D(G(z))) on fresh latents, and the terms, some of which compare with data."""
        n = update.batch_size
        z = self.prior.sample(n, update.rng)
        y = None if self.labels is None else self.labels.draw(n, update.rng)
        fake = self._discriminate(self._shown(self._generate(z, y), update), y)
        score = per_example(fake.score)
        metrics = {"score/generator": score.detach().mean()}
        loss = self.objective.generator(score).mean()
        if any(term.replaces for term in self.terms):
            loss = torch.zeros_like(loss)
        real = None
        if batch is not None:
            with torch.no_grad():
                real = self._discriminate(self._shown(batch.x, update), batch.y)
        for term in self.terms:
            value = term(fake, real)
            loss = loss + term.weight * value
            metrics[f"term/{term.name}"] = value
        return self._with_past("generator", loss), metrics

    def unrolled_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """f(G, D after k more steps) on the batch of the discriminator's update; in float32."""
        fake = self._generate(self.prior.sample(len(batch), update.rng), batch.y)
        with torch.autocast(fake.device.type, enabled=False):
            real, fake = self._shown(batch.x, update), self._shown(fake.to(batch.x.dtype), update)
            judge = functools.partial(self._judge, real, fake, batch.y, update)
            coming = update.next_step("discriminator")
            loss, metrics = unrolled_loss(
                self, self.objective, judge, coming, self.unroll, self.zero_sum
            )
        return self._with_past("generator", loss), metrics

    # --- the networks, with what they are given ---------------------------------------------------
    def _generate(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        given = z if self.labels is None else self.labels.beside_latent(z, y)
        out: Tensor = self.generator(given)
        return out

    def _discriminate(self, x: Tensor, y: Tensor | None = None) -> Discrimination:
        # What is compiled could not be differentiated twice.
        network = self.discriminator.forward if self.unroll else self.discriminator
        out: Discrimination = network(self._with_labels(x, y))
        return out

    def _with_labels(self, x: Tensor, y: Tensor | None) -> Tensor:
        return x if self.labels is None else self.labels.beside_example(x, y)

    def _shown(self, x: Tensor, update: Update) -> Tensor:
        return augment(x, self.augment, update.rng) if self.augment else x

    def _scores(self, real: Tensor, fake: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """``(N,)`` each, in one pass where no layer couples examples or draws for rows."""
        if self.apart:
            real_score = per_example(self._discriminate(real, y).score)
            return real_score, per_example(self._discriminate(fake, y).score)
        x = torch.cat([real, fake.to(real.dtype)])
        both = per_example(self._discriminate(x, None if y is None else torch.cat([y, y])).score)
        return both[: len(real)], both[len(real) :]

    def _with_past(self, player: str, loss: Tensor) -> Tensor:
        return loss if self.past is None else loss + self.past.distance(self, player)

    def after_update(self, player: str) -> None:
        """Put the discriminator's weights back where they may be; take them into the past."""
        if player == "discriminator":
            self.restraint.hold(self.discriminator)
        if self.past is not None:
            self.past.record(self, player)

    # --- capabilities ---------------------------------------------------------------------------
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` from the prior through the generator, of the labels asked for."""
        z = self.prior.sample(n, rng)
        if self.labels is not None and condition is None:
            condition = self.labels.turn(n, rng)
        return self._picture(self._generate(z, condition))

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``; with labels, which go through the classes, behind it."""
        z = self.prior.sample(n, rng)
        return z if self.labels is None else self.labels.beside_latent(z, self.labels.turn(n, rng))

    def decode(self, z: Tensor) -> Tensor:
        """What ``sample_latent`` gives → ``(n, *shape)``."""
        return self._picture(self.generator(z if self.labels is None else self.labels.upright(z)))

    def _picture(self, out: Tensor) -> Tensor:
        """Energies know no bound, so images are clamped."""
        return out.clamp(-1.0, 1.0) if self.spec.kind == "image" else out

    def discriminator_features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, F)`` before the score (of an autoencoder, its code), no label."""
        features = self._discriminate(x).features
        assert features is not None
        return features

    def discriminator_score(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N,)``: logit, critic value or minus the energy, no label."""
        score = per_example(self._discriminate(x).score)
        return -score if self.objective.output == "energy" else score

    def warnings(self, examples: int) -> Sequence[str]:
        """Few images for the discriminator; a critic whose slope nothing bounds."""
        found: list[str] = []
        if self.spec.kind == "image" and not self.augment:
            found += cautions.few_images(examples, self.discriminator)
        if self.objective.output == "critic" and not self.restraint:
            found += cautions.free_slope(self.discriminator)
        return found

    # --- metrics --------------------------------------------------------------------------------
    def _adapt(self, seen: dict[str, Tensor], update: Update) -> dict[str, Tensor]:
        """Let an objective with a state of its own (BEGAN's k) move it, equally on all ranks."""
        if not isinstance(self.objective, Adapts) or "score/generator" not in seen:
            return {}
        real, fake = update.mean(seen["score/real"]), update.mean(seen["score/generator"])
        return self.objective.adapt(real, fake)
