"""Semi-supervised GAN: a classifier that learns from few labels, and from what is generated."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genctl.batch_coupling import couples_examples
from genctl.contracts import (
    ClassifierPart,
    GenerativeModel,
    GeneratorPart,
    ObjectivePart,
    PenaltyPart,
    PriorPart,
    Update,
)
from genctl.errors import ConfigError
from genctl.models import cautions
from genctl.models.augmentation import Kind, augment
from genctl.models.combinations import refuse_augmented_points
from genctl.models.labelled_examples import LabelledExamples
from genctl.models.play import PlayPart
from genctl.models.restraints import Restraint
from genctl.models.watching import diversity, watch
from genctl.networks.layers.joined_noise import joined
from genctl.networks.layers.noise import drawing_layers
from genctl.objectives.classes import label_loss, real_logit
from genctl.objectives.terms import FeatureMatching
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batch, Batches, DataSpec, Discrimination


@register("model", "semi-supervised")
class SemiSupervisedModel(GenerativeModel):
    """The classifier is the discriminator (Salimans et al. 2016, arXiv:1606.03498, section 5).

    Its K logits say both which class and, by their Z = Σ exp, how probably real: D = Z / (Z + 1).
    The labels of ``labels`` examples are known; they are chosen by the run's seed when it begins,
    and kept with the weights. All other labels are hidden: batches are looked at without theirs.

    Args:
        spec: the data's facts; it must have at least two classes.
        latent_dim: size of z.
        labels: how many labelled examples, spread evenly over the classes.
        generator: network from z to an example.
        classifier: network from an example to features and logits.
        objective: of the score log Z; one that takes logits.
        unlabelled_weight: factor of the real and generated terms; the authors' code has ½.
        feature_matching: the generator matches mean features, ‖E f(x) − E f(G(z))‖², as in the
            paper, or follows the objective.
        prior: distribution of z.
        play: how many updates each player makes in a step.
        penalty: added to the classifier's loss; the slope is that of log Z. There is no clip: a
            classifier's weights must be free to grow with its confidence.
        augment: differentiable changes of all that the classifier is shown in training.

    Raises:
        DataError: the data has no labels.
        ConfigError: the parts do not go together.
    """

    players: Mapping[str, Sequence[str]] = {
        "discriminator": ("classifier",),
        "generator": ("generator",),
    }
    averaged: Sequence[str] = ("classifier", "generator")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: Annotated[int, Field(ge=1)] = 100,
        labels: Annotated[int, Field(ge=2)] = 100,
        generator: GeneratorPart,
        classifier: ClassifierPart = default("classifier", "conv"),
        objective: ObjectivePart = default("objective", "non-saturating"),
        unlabelled_weight: Annotated[float, Field(gt=0)] = 1.0,
        feature_matching: bool = True,
        prior: PriorPart = default("prior", "uniform"),
        play: PlayPart = default("play", "fixed"),
        penalty: PenaltyPart | None = None,
        augment: tuple[Kind, ...] = (),
    ) -> None:
        super().__init__()
        refuse_augmented_points(bool(augment), spec)
        self.spec, self.augment = spec, augment
        self.labelled = LabelledExamples(spec, labels)
        self.objective = objective()
        if self.objective.output != "logit":
            raise ConfigError(
                "model.objective",
                [f"log Z is a logit of being real, this objective wants a {self.objective.output}"],
                "--set model.objective=non-saturating",
            )
        self.classifier = classifier(spec.shape, spec.classes)
        self.restraint = Restraint(penalty, None)
        self.restraint.check(self.classifier)
        self.apart = couples_examples(self.classifier)
        self.generator = generator(latent_dim, spec.shape)
        self.unlabelled_weight = unlabelled_weight
        self.matching = FeatureMatching() if feature_matching else None
        self.prior = prior(latent_dim)
        self.play = play()

    def initialise(self, batches: Batches, rng: RandomStream) -> None:
        """Choose the labelled examples; let a network that starts from data see them."""
        self.labelled.choose(batches)
        start = getattr(self.classifier, "initialise", None)
        if start is not None:
            start(self.labelled.x, rng)

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Some updates of the classifier on fresh batches, some of G on the last of them."""
        batch: list[Batch] = []

        def move_discriminator() -> Tensor:
            batch[:] = [next(batches)]
            loss_fn = functools.partial(self.discriminator_loss, update=update)
            return update("discriminator", loss_fn, batch[0])["loss/discriminator"]

        def move_generator() -> Tensor:
            loss_fn = functools.partial(self.generator_loss, update=update)
            return update("generator", loss_fn, batch[0])["loss/generator"]

        self.play(move_discriminator, move_generator, update)
        return {}

    def discriminator_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """E −log p(y|x) of labelled examples, w (E real(log Z(x)) + E fake(log Z(G(z))))."""
        x, y = self.labelled.draw(len(batch), update.rng)
        with torch.no_grad():
            fake = self.generator(self.prior.sample(len(batch), update.rng))
        shown = [augment(part, self.augment, update.rng) for part in (x, batch.x, fake)]
        known, real_seen, fake_seen = self._seen_by_turns(*shown)
        _, x_real, x_fake = shown
        real_score, fake_score = real_logit(real_seen), real_logit(fake_seen)
        supervised = label_loss(known, y).mean()
        real, generated = self.objective.real(real_score), self.objective.fake(fake_score)
        cost, penalty = self.restraint.cost(
            self.classifier, x_real, x_fake, update, score=lambda out: real_logit(out[1].float())
        )
        metrics = {
            **penalty,
            "loss/labelled": supervised,
            "accuracy": (known.argmax(1) == y).float().mean(),
            **watch("logit", real_score.detach(), fake_score.detach()),
        }
        if update.logging:
            metrics["diversity"] = diversity(fake.float(), batch.x)
        unlabelled = self.unlabelled_weight * (real.mean() + generated.mean())
        return supervised + unlabelled + cost, metrics

    def generator_loss(self, batch: Batch, update: Update) -> Tensor:
        """‖E f(x) − E f(G(z))‖² over the batch of all ranks, or the objective's E generator."""
        seen = self._seen(self.generator(self.prior.sample(len(batch), update.rng)), update)
        if self.matching is None:
            return self.objective.generator(seen.score).mean()
        with torch.no_grad():
            real = self._seen(batch.x, update)
        return self.matching(seen, real)

    def _seen_by_turns(self, *parts: Tensor) -> list[Tensor]:
        """Logits of batches of one size; in one pass where no layer couples examples."""
        if self.apart:
            return [self.classify(x).float() for x in parts]
        with joined(drawing_layers(self.classifier), len(parts)):
            logits = self.classify(torch.cat([x.to(parts[0].dtype) for x in parts]))
        return list(logits.float().chunk(len(parts)))

    def _seen(self, x: Tensor, update: Update) -> Discrimination:
        features, logits = self.classifier(augment(x, self.augment, update.rng))
        return Discrimination(real_logit(logits.float()), features.float())

    def warnings(self, examples: int) -> Sequence[str]:
        """Few images for the discriminator."""
        few = self.spec.kind == "image" and not self.augment
        return [*cautions.few_images(examples, self.classifier)] if few else []

    # --- capabilities ---------------------------------------------------------------------------
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` from the prior through the generator."""
        return self.decode(self.sample_latent(n, rng))

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``."""
        return self.prior.sample(n, rng)

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``."""
        out: Tensor = self.generator(z)
        return out.clamp(-1.0, 1.0) if self.spec.kind == "image" else out

    def classify(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, classes)`` logits; in evaluation without the network's noise."""
        logits: Tensor = self.classifier(x)[1]
        return logits

    def discriminator_features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, F)``."""
        features: Tensor = self.classifier(x)[0]
        return features

    def discriminator_score(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N,)`` logit of being real, log Z(x)."""
        return real_logit(self.classify(x).float())
