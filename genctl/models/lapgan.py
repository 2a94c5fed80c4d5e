"""LAPGAN (Denton et al. 2015, arXiv:1506.05751): a GAN at every level of a Laplacian pyramid."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

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
from genctl.models import cautions
from genctl.models.augmentation import Kind, augment
from genctl.models.combinations import refuse_other_scores
from genctl.models.labels import Labels
from genctl.models.play import PlayPart
from genctl.models.restraints import Restraint
from genctl.models.watching import diversity, per_example, watch
from genctl.networks.layers.laplacian_pyramid import Size, gaussian_pyramid, upsample
from genctl.randomness import RandomStream
from genctl.registry import Part, default, register
from genctl.types import Batch, Batches, DataSpec

RefinerPart = Annotated[Callable[[int, int], nn.Module], Part("refiner")]
"""Facts (planes, channels); ``(N, planes, H, W)`` → ``(N, channels, H, W)``, unbounded."""

SMALLEST = 2
"""Pixels along an edge of the coarsest level, at least."""


@register("model", "lapgan")
class LaplacianPyramidGAN(GenerativeModel):
    """Section 3 of arXiv:1506.05751: G_K draws the coarsest image, each G_k the coefficients h_k.

    At a level k, l_k = u(I_{k+1}) is what the coarser image says. D_k tells l_k + h_k of an image
    from l_k + G_k(z_k, l_k), both with the l_k of a real image, so no level waits for another. The
    paper tosses a coin for which of the two D_k is shown; here it is shown both, twice the
    expectation at less variance. The sum l_k + h_k is the real image at that size.

    The levels are independent games. All are played at once, each player minimising the mean of
    its losses over the levels: the gradient of a network is that of its own level over the number
    of levels, which Adam and RMSprop do not notice. Only what looks at a player as a whole couples
    them: ``train.clip``, and the skipped step when a gradient is not finite.

    Args:
        spec: the data's facts.
        levels: sizes of the pyramid, each half of the next.
        sizes: instead of that, the edges of square images, coarse to fine; the last is the data's.
        latent_dim: size of the coarsest level's z. At a finer level z_k is a plane of noise.
        conditional: all networks are given the label, as planes of a one-hot code.
        generator: G_K, an ordinary generator.
        discriminator: D_K, an ordinary discriminator.
        refiner: G_k of every finer level.
        judge: D_k of every finer level.
        objective: what the two minimise.
        prior: distribution of all z of one image.
        play: how many updates each player makes in a step.
        penalty: added to the loss of the discriminator at every level.
        constraint: on the weights of all discriminators, after each of their updates.
        augment: differentiable changes of all that they see, drawn anew at every level.

    Raises:
        ConfigError: the sizes make no pyramid of the data's images, labels are missing, or the
            parts do not go together.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        levels: Annotated[int, Field(ge=2)] = 3,
        sizes: tuple[Annotated[int, Field(ge=SMALLEST)], ...] | None = None,
        latent_dim: Annotated[int, Field(ge=1)] = 100,
        conditional: bool = False,
        generator: GeneratorPart = default("generator", "mlp", width=1200),
        discriminator: DiscriminatorPart = default("discriminator", "mlp", width=600),
        refiner: RefinerPart = default("refiner", "lapgan"),
        judge: DiscriminatorPart = default("discriminator", "lapgan"),
        objective: ObjectivePart = default("objective", "non-saturating"),
        prior: PriorPart = default("prior", "gaussian"),
        play: PlayPart = default("play", "fixed"),
        penalty: PenaltyPart | None = None,
        constraint: ConstraintPart | None = None,
        augment: tuple[Kind, ...] = (),
    ) -> None:
        super().__init__()
        self.sizes = pyramid_sizes(spec, levels, sizes)
        self.objective = objective()
        if isinstance(self.objective, Adapts):
            problem = "it balances one discriminator, and here is one at every level"
            raise ConfigError("model.objective", [problem], "--set model.objective=non-saturating")
        self.conditional, self.augment = conditional, augment
        self.restraint = Restraint(penalty, constraint)
        self.labels = Labels(spec) if conditional else None
        given = self.labels.given if self.labels else 0
        channels, coarsest, finer = spec.shape[0], self.sizes[0], self.sizes[1:]
        self.generators = nn.ModuleList([generator(latent_dim + given, (channels, *coarsest))])
        self.generators.extend(refiner(channels + 1 + given, channels) for _ in finer)
        self.discriminators = nn.ModuleList([discriminator((channels + given, *coarsest))])
        self.discriminators.extend(judge((channels + given, *size)) for size in finer)
        for network in self.discriminators:
            refuse_other_scores(network, self.objective.output)
            self.restraint.check(network)
        self.latents = [latent_dim, *[height * breadth for height, breadth in finer]]
        self.prior = prior(sum(self.latents))
        self.play = play()
        places = range(len(self.sizes))
        self.players: Mapping[str, Sequence[str]] = {
            "discriminator": [f"discriminators.{k}" for k in places],
            "generator": [f"generators.{k}" for k in places],
        }
        self.averaged = self.players["generator"]

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Some discriminator updates on fresh batches, then generator updates, at every level."""
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
        """Mean over the levels of E real(D(l + h)) + E fake(D(l + G(z, l))) + penalty."""
        images, label = gaussian_pyramid(batch.x, self.sizes), self._label(batch.y)
        with torch.no_grad():
            fakes = self.draw_levels(images, self.prior.sample(len(batch), update.rng), label)
        losses, seen = [], []
        beside = functools.partial(_beside, label=label)
        for k, pair in enumerate(zip(images, fakes, strict=True)):
            real, fake = (augment(x, self.augment, update.rng) for x in pair)
            # One after the other: a discriminator may have batch norm.
            scores = self._score(k, real, label), self._score(k, fake.to(real.dtype), label)
            loss = self.objective.real(scores[0]).mean() + self.objective.fake(scores[1]).mean()
            cost, penalty = self.restraint.cost(
                self.discriminators[k], real, fake, update, beside=beside
            )
            losses.append(loss + cost)
            watched = watch(self.objective.output, *(score.detach() for score in scores))
            seen.append(watched | penalty)
        metrics = {key: torch.stack([level[key] for level in seen]).mean() for key in seen[0]}
        metrics |= self._by_level("discriminator", losses)
        if update.logging:
            metrics["diversity"] = diversity(fakes[-1].float(), batch.x)
        return torch.stack(losses).mean(), metrics

    def generator_loss(self, batch: Batch, update: Update) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over the levels of E generator(D(l + G(z, l)))."""
        images, label = gaussian_pyramid(batch.x, self.sizes), self._label(batch.y)
        fakes = self.draw_levels(images, self.prior.sample(len(batch), update.rng), label)
        losses = [
            self.objective.generator(
                self._score(k, augment(fake, self.augment, update.rng), label)
            ).mean()
            for k, fake in enumerate(fakes)
        ]
        return torch.stack(losses).mean(), self._by_level("generator", losses)

    def draw_levels(self, images: list[Tensor], z: Tensor, label: Tensor | None) -> list[Tensor]:
        """Each level's image from the *real* coarser one, l_k + G_k(z_k, l_k), coarse to fine.

        Args:
            images: Gaussian pyramid, coarse to fine.
            z: ``(N, sum(latents))``.
            label: ``(N, classes)`` one-hot, or None.
        """
        coarsest, *noises = z.split(self.latents, 1)
        drawn: list[Tensor] = [self.generators[0](_beside(coarsest, label))]
        for k, (coarser, noise) in enumerate(zip(images, noises, strict=False), start=1):
            drawn.append(self._refine(k, coarser, noise, label))
        return drawn

    def _refine(self, k: int, coarser: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        """One finer image, l + G_k(z, l) with l = u(coarser)."""
        low = upsample(coarser, self.sizes[k])
        plane = noise.view(-1, 1, *self.sizes[k]).to(low.dtype)
        h: Tensor = self.generators[k](_beside(torch.cat([low, plane], 1), label))
        return low + h

    def _score(self, k: int, x: Tensor, label: Tensor | None) -> Tensor:
        """``(N,)``."""
        return per_example(self.discriminators[k](_beside(x, label)).score)

    def _label(self, y: Tensor | None) -> Tensor | None:
        """``(N, classes)`` one-hot; None where the model is not conditional."""
        return None if self.labels is None or y is None else self.labels.one_hot(y)

    def _by_level(self, player: str, losses: Sequence[Tensor]) -> dict[str, Tensor]:
        edges = [str(min(size)) for size in self.sizes]
        return {f"lapgan/{player}-{e}": loss for e, loss in zip(edges, losses, strict=True)}

    def after_update(self, player: str) -> None:
        """Put the discriminators' weights back where they may be."""
        if player == "discriminator":
            self.restraint.hold(self.discriminators)

    def warnings(self, examples: int) -> Sequence[str]:
        """Critics whose slope nothing bounds."""
        free = self.objective.output == "critic" and not self.restraint
        return [*cautions.free_slope(self.discriminators)] if free else []

    # --- capabilities ---------------------------------------------------------------------------
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` coarse to fine, of the labels asked for, or one class after the other."""
        z, label = self.prior.sample(n, rng), None
        if self.labels is not None:
            label = self.labels.one_hot(
                self.labels.turn(n, rng) if condition is None else condition
            )
        return self._descend(z, label)

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, sum(latents))``: z of every level; labels, one class after the other, behind it."""
        z = self.prior.sample(n, rng)
        return z if self.labels is None else self.labels.beside_latent(z, self.labels.turn(n, rng))

    def decode(self, z: Tensor) -> Tensor:
        """What ``sample_latent`` gives → ``(n, *shape)``."""
        if self.labels is None:
            return self._descend(z, None)
        z, label = self.labels.upright(z).split([sum(self.latents), self.labels.given], 1)
        return self._descend(z, label)

    def _descend(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Figure 1: I_K = G_K(z_K), then I_k = u(I_{k+1}) + G_k(z_k, u(I_{k+1}))."""
        coarsest, *noises = z.split(self.latents, 1)
        image: Tensor = self.generators[0](_beside(coarsest, label))
        for k, noise in enumerate(noises, start=1):
            image = self._refine(k, image, noise, label)
        return image.clamp(-1.0, 1.0)


def pyramid_sizes(spec: DataSpec, levels: int, edges: Sequence[int] | None) -> list[Size]:
    """Heights and widths, coarse to fine; the last is the data's.

    Raises:
        ConfigError: they would not shrink to at least ``SMALLEST`` pixels, level by level.
    """
    if spec.kind != "image":
        raise ConfigError(
            "model.kind=lapgan", ["points have no pyramid"], "images, or model.kind=adversarial"
        )
    finest: Size = (spec.shape[1], spec.shape[2])
    if edges is None:
        sizes = [finest]
        for _ in range(levels - 1):
            height, breadth = sizes[0]
            sizes.insert(0, ((height + 1) // 2, (breadth + 1) // 2))
        if min(sizes[0]) < SMALLEST:
            most = min(finest).bit_length() - 1
            raise ConfigError(
                "model.levels",
                [f"{levels} are too many for images of {finest[0]}×{finest[1]}"],
                f"--set model.levels={most}" if most > 1 else "larger images: --set data.size=32",
            )
        return sizes
    rising = all(coarse < fine for coarse, fine in pairwise(edges))
    if len(edges) < 2 or not rising or (edges[-1], edges[-1]) != finest:
        raise ConfigError(
            "model.sizes",
            [
                f"{list(edges)} should rise, coarse to fine, to the edge of the data's images, "
                f"which are {finest[0]}×{finest[1]}"
            ],
            f"--set data.size={max(edges, default=32)}, or leave it out and set model.levels",
        )
    return [(edge, edge) for edge in edges]


def _beside(x: Tensor, label: Tensor | None) -> Tensor:
    """Latents ``(N, D)`` or images ``(N, C, H, W)``; the label's entries are further channels."""
    if label is None:
        return x
    planes = label.to(x.dtype).view(*label.shape, *[1] * (x.dim() - 2))
    return torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)
