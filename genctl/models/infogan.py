"""InfoGAN: a game in which the generator must let its codes be read from its examples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.batch_coupling import couples_examples
from genctl.contracts import (
    ConstraintPart,
    DiscriminatorPart,
    GenerativeModel,
    GeneratorPart,
    ObjectivePart,
    PenaltyPart,
    PriorPart,
    Update,
)
from genctl.distributions.codes import Codes
from genctl.errors import CapabilityError, ConfigError
from genctl.models import cautions
from genctl.models.augmentation import Kind, augment
from genctl.models.combinations import refuse_augmented_points
from genctl.models.play import PlayPart
from genctl.models.restraints import Restraint
from genctl.models.watching import diversity, per_example, watch
from genctl.networks.layers.noise import drawing_layers
from genctl.objectives.mutual_information import information_bound
from genctl.randomness import RandomStream
from genctl.registry import Part, default, register
from genctl.types import Batch, Batches, DataSpec, Discrimination

RecogniserPart = Annotated[Callable[[int, int], nn.Module], Part("recogniser")]
"""Facts (features, outputs); ``(N, features)`` → ``(N, outputs)``."""

Weight = Annotated[float, Field(ge=0)]

REACH = 2.0
"""How far a sweep goes with a continuous code, drawn from [−1, 1] in training (figure 2)."""


@register("model", "infogan")
class InfoGANModel(GenerativeModel):
    """min over G, Q, max over D of V(D, G) − λ L_I(G, Q) (arXiv:1606.03657, eq. 6).

    Q shares D's network up to the features. As in the authors' code the discriminator's player
    trains D and Q, and −λ L_I is in the losses of both players: D's network learns to read codes
    too, and the generator to write them.

    Args:
        spec: the data's facts.
        latent_dim: size of the noise z.
        categorical: number of classes of each categorical code.
        continuous: number of continuous codes, uniform on [−1, 1].
        categorical_weight: λ of the categorical codes' information.
        continuous_weight: λ of the continuous codes', smaller because a density has no bound.
        variance: of Q's Gaussian for a continuous code: 1, or learned for each example.
        generator: network from noise and codes to an example.
        discriminator: network from an example to a score and features.
        recogniser: network from those features to Q.
        objective: what the two minimise besides.
        prior: distribution of z.
        play: how many updates each player makes in a step.
        penalty: added to the discriminator's loss; the slope is that of its score, without Q.
        constraint: on the discriminator's weights, after each of its updates, without Q's.
        augment: differentiable changes of all that D and Q see, for few images.

    Raises:
        ConfigError: the parts do not go together.
    """

    players: Mapping[str, Sequence[str]] = {
        "discriminator": ("discriminator", "recogniser"),
        "generator": ("generator",),
    }
    averaged: Sequence[str] = ("generator", "discriminator", "recogniser")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: Annotated[int, Field(ge=1)] = 62,
        categorical: tuple[Annotated[int, Field(ge=2)], ...] = (10,),
        continuous: Annotated[int, Field(ge=0)] = 2,
        categorical_weight: Weight = 1.0,
        continuous_weight: Weight = 0.1,
        variance: Literal["unit", "learned"] = "unit",
        generator: GeneratorPart,
        discriminator: DiscriminatorPart,
        recogniser: RecogniserPart = default("recogniser", "mlp"),
        objective: ObjectivePart = default("objective", "non-saturating"),
        prior: PriorPart = default("prior", "uniform"),
        play: PlayPart = default("play", "fixed"),
        penalty: PenaltyPart | None = None,
        constraint: ConstraintPart | None = None,
        augment: tuple[Kind, ...] = (),
    ) -> None:
        super().__init__()
        self.codes = Codes(categorical, continuous, variance == "learned")
        if not self.codes.size:
            raise ConfigError(
                "model.categorical",
                ["there is no code to be read"],
                "--set model.categorical=[10], or kind: adversarial for none",
            )
        self.objective = objective()
        if self.objective.output != "logit":
            raise ConfigError(
                "model.objective",
                [f"it wants a {self.objective.output}; InfoGAN's game is one of logits"],
                "--set model.objective=non-saturating",
            )
        refuse_augmented_points(bool(augment), spec)
        self.spec, self.latent_dim, self.augment = spec, latent_dim, augment
        self.restraint = Restraint(penalty, constraint)
        self.weights = categorical_weight, continuous_weight
        self.prior = prior(latent_dim)
        self.generator = generator(latent_dim + self.codes.size, spec.shape)
        self.discriminator = discriminator(spec.shape)
        if getattr(self.discriminator, "output", "score") == "energy":
            raise ConfigError(
                "model.discriminator",
                ["its score is an energy; InfoGAN's game is one of logits"],
                "--set model.discriminator.kind=dcgan",
            )
        self.restraint.check(self.discriminator)
        features = _feature_size(self.discriminator, spec.shape)
        self.recogniser = recogniser(features, self.codes.outputs)
        coupled = couples_examples(self.discriminator)
        self.apart = coupled or bool(drawing_layers(self.discriminator))
        self.play = play()

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Some updates of D and Q on fresh batches, then some of G."""

        def move_discriminator() -> Tensor:
            loss_fn = functools.partial(self.discriminator_loss, update=update)
            return update("discriminator", loss_fn, next(batches))["loss/discriminator"]

        def move_generator() -> Tensor:
            loss_fn = functools.partial(self.generator_loss, update)
            return update("generator", loss_fn)["loss/generator"]

        self.play(move_discriminator, move_generator, update)
        return {}

    def discriminator_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E real(D(x)) + E fake(D(G(z, c))) − λ L_I, and the penalty."""
        z = self.sample_latent(len(batch), update.rng)
        with torch.no_grad():
            fake = self.generator(z)
        x, shown = self._shown(batch.x, update), self._shown(fake, update)
        real, seen = self._seen_both(x, shown)
        real_score, fake_score = per_example(real.score), per_example(seen.score)
        loss = self.objective.real(real_score).mean() + self.objective.fake(fake_score).mean()
        information, metrics = self.information(seen, z)
        cost, penalty = self.restraint.cost(self.discriminator, x, shown, update)
        metrics |= penalty | watch("logit", real_score.detach(), fake_score.detach())
        if update.logging:
            metrics["diversity"] = diversity(fake.float(), batch.x)
        return loss - information + cost, metrics

    def generator_loss(self, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E generator(D(G(z, c))) − λ L_I on fresh latents and codes."""
        z = self.sample_latent(update.batch_size, update.rng)
        seen: Discrimination = self.discriminator(self._shown(self.generator(z), update))
        information, metrics = self.information(seen, z)
        return self.objective.generator(per_example(seen.score)).mean() - information, metrics

    def _shown(self, x: Tensor, update: Update) -> Tensor:
        return augment(x, self.augment, update.rng)

    def after_update(self, player: str) -> None:
        """Put the discriminator's weights back where they may be."""
        if player == "discriminator":
            self.restraint.hold(self.discriminator)

    def information(self, seen: Discrimination, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """λ L_I, a scalar, and L_I of both kinds of codes in nats."""
        found = self.recogniser(seen.features).float()
        posteriors = self.codes.log_posterior(z[:, self.latent_dim :], found)
        bounds = [
            information_bound(log_q, entropy)
            for log_q, entropy in zip(posteriors, self.codes.entropy, strict=True)
        ]
        total = self.weights[0] * bounds[0] + self.weights[1] * bounds[1]
        names = ("information/categorical", "information/continuous")
        return total, dict(zip(names, bounds, strict=True))

    def _seen_both(self, real: Tensor, fake: Tensor) -> tuple[Discrimination, Discrimination]:
        """Batch norm must see real and generated examples apart; else one pass."""
        if self.apart:
            return self.discriminator(real), self.discriminator(fake)
        n, both = len(real), self.discriminator(torch.cat([real, fake.to(real.dtype)]))
        first = Discrimination(both.score[:n], both.features[:n])
        return first, Discrimination(both.score[n:], both.features[n:])

    def warnings(self, examples: int) -> Sequence[str]:
        """Few images for the discriminator."""
        few = self.spec.kind == "image" and not self.augment
        return [*cautions.few_images(examples, self.discriminator)] if few else []

    # --- capabilities ---------------------------------------------------------------------------
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` of random noise and codes."""
        return self.decode(self.sample_latent(n, rng))

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim + codes)``: noise, one-hot categorical codes, continuous codes."""
        return torch.cat([self.prior.sample(n, rng), self.codes.sample(n, rng)], 1)

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim + codes)`` → ``(n, *shape)``."""
        out: Tensor = self.generator(z)
        return out.clamp(-1.0, 1.0) if self.spec.kind == "image" else out

    def sweep_codes(self, rows: int, steps: int, rng: RandomStream) -> Tensor:
        """``(codes, rows, steps, latent_dim + codes)``: each code varied, all else fixed."""
        noise, codes = self.prior.sample(rows, rng), self.codes.sample(rows, rng)
        swept = self.codes.sweep(codes, steps, REACH)
        return torch.cat([noise[None, :, None].expand(*swept.shape[:3], -1), swept], -1)

    def cluster(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, classes)`` logits of Q for the first categorical code.

        Raises:
            CapabilityError: there is none.
        """
        if not self.codes.categorical:
            raise CapabilityError(
                "the model", "has no categorical code", "--set model.categorical=[10] in training"
            )
        return self.codes.logits(self.recogniser(self.discriminator(x).features))

    def discriminator_features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, F)``."""
        features: Tensor = self.discriminator(x).features
        return features

    def discriminator_score(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N,)`` logit of being real."""
        return per_example(self.discriminator(x).score)


@torch.no_grad()
def _feature_size(discriminator: nn.Module, shape: tuple[int, ...]) -> int:
    """How many features an example has: in evaluation mode, so that no statistics move."""
    discriminator.eval()
    size: int = discriminator(torch.zeros(1, *shape)).features.shape[1]
    discriminator.train()
    return size
