"""The protocols everything else is written against. Read this file first.

A *model* is a ``GenerativeModel``: it owns its networks and says how one training step goes. The
mechanics of a step belong to ``Update``. What a model can do besides training is a set of small
capabilities; a model has one by having its methods, and nothing more.

Conventions: images are ``(N, C, H, W)`` in [−1, 1]; losses are one number per example until the
model takes the batch mean; scores are logits, critic values or energies, never probabilities;
log-likelihoods are in nats for one example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from genctl.randomness import RandomStream
from genctl.registry import Part
from genctl.types import Batch, Batches, Discrimination, Likelihood, NextStep

LossResult = Tensor | tuple[Tensor, dict[str, Tensor]]
LossFn = Callable[..., LossResult]


class Update(Protocol):
    """Everything mechanical about updating a player, written once in the engine.

    Attributes:
        rng: this step's noise; equal whatever the number of ranks.
        logging: true when this step writes a log row, so costly metrics can wait for it; the
            model names them in ``rare``.
        step: the number of this training step, from 1.
        batch_size: examples of this rank in a batch, for losses that draw their own inputs.
    """

    rng: RandomStream
    logging: bool
    step: int
    batch_size: int

    def __call__(
        self, player: str, loss_fn: LossFn, batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """Take one optimiser step of ``player`` on ``loss_fn(batch)`` (or ``loss_fn()``).

        The loss function returns a scalar, or a scalar and metrics. Freezing, autocast, backward,
        gradient averaging, clipping, the non-finite policy, counting, schedules, EMA and
        ``after_update`` happen here. Returns the metrics, detached, with ``loss/<player>``.
        """

    def together(
        self, losses: Mapping[str, LossFn], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """All gradients at the same weights, then all steps (simultaneous gradient descent)."""

    def at_once(self) -> AbstractContextManager[None]:
        """Inside, updates only take their gradients; on leaving, all steps are made in turn.

        ``together`` for whoever holds the moves but not the losses.
        """

    def count(self, player: str) -> int:
        """How many updates the player has had."""

    def next_step(self, player: str) -> NextStep:
        """What the player's optimiser is about to do; nothing is changed by asking."""

    def mean(self, value: Tensor) -> Tensor:
        """Mean over ranks, on the device."""

    def gather(self, value: Tensor) -> Tensor:
        """Rows of every rank, ``(n, …)`` → ``(ranks · n, …)``, as the global batch has them."""

    def read(self, value: Tensor) -> float:
        """Mean over ranks as a float: the only call that synchronises; for rules on values."""


class GenerativeModel(nn.Module):
    """A model owns its networks as sub-modules; nothing else.

    Attributes:
        players: which sub-modules each player trains. Players may overlap.
        averaged: sub-modules that get an averaged (EMA) copy, used for sampling by default.
        gauges: metric keys logged as their last value instead of the window's mean.
        rare: metric keys of steps that write a log row alone, see ``Update.logging``.
        conditional: ``sample`` takes ``(n,)`` labels as its condition.
    """

    players: Mapping[str, Sequence[str]]
    averaged: Sequence[str] = ()
    gauges: Sequence[str] = ()
    rare: Sequence[str] = ("diversity",)
    conditional: bool = False

    def initialise(self, batches: Batches, rng: RandomStream) -> None:
        """Data-dependent start, once, before optimisers and averages; batches are not counted."""

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """One step of the paper's algorithm. Returns metrics beyond those the updates recorded."""
        raise TypeError(f"{type(self).__name__} does not define training_step")

    def warnings(self, examples: int) -> Sequence[str]:
        """What a user should hear before this model is trained on so many examples."""
        return ()

    def after_update(self, player: str) -> None:
        """Called after each optimiser step of ``player``: clip weights, project latents."""


# --- capabilities -------------------------------------------------------------------------------
@runtime_checkable
class Samples(Protocol):
    """Draws from the model."""

    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` images in [−1, 1] or points; row i depends only on rng's row i."""


@runtime_checkable
class HasLatent(Protocol):
    """Has a latent space to walk in."""

    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)`` draws from the prior."""

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``, deterministic and differentiable in ``z``."""


@runtime_checkable
class Encodes(Protocol):
    """Maps data to latents."""

    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, latent_dim)``, deterministic (the posterior's mode)."""


@runtime_checkable
class Reconstructs(Protocol):
    """Maps data through the latent space and back."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, *shape)``."""


@runtime_checkable
class HasLikelihood(Protocol):
    """Knows, bounds or estimates log p(x)."""

    def log_likelihood(self, batch: Batch, rng: RandomStream) -> Likelihood:
        """``(N,)`` nats for each example, and of which kind they are."""


@runtime_checkable
class Completes(Protocol):
    """Fills in missing pixels."""

    def complete(self, x: Tensor, mask: Tensor, rng: RandomStream) -> Tensor:
        """Keeps ``x`` where ``mask`` ``(N, 1, H, W)`` is 1 and draws the rest."""


@runtime_checkable
class Translates(Protocol):
    """Turns one picture (text, frames) into another."""

    def translate(self, x: Tensor, rng: RandomStream) -> Tensor:
        """``(N, …)`` → ``(N, *shape)``."""


@runtime_checkable
class Classifies(Protocol):
    """Predicts labels."""

    def classify(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, classes)`` logits."""


@runtime_checkable
class Clusters(Protocol):
    """Groups examples by what it found without labels."""

    def cluster(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, clusters)`` logits."""


@runtime_checkable
class SweepsCodes(Protocol):
    """Has codes, each of which is to change one thing about an example."""

    def sweep_codes(self, rows: int, steps: int, rng: RandomStream) -> Tensor:
        """``(codes, rows, steps, latent)`` for ``decode``: one code varied along the steps."""


@runtime_checkable
class HasFeatures(Protocol):
    """Offers a representation for measures."""

    def features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, F)``."""


@runtime_checkable
class HasDiscriminatorFeatures(Protocol):
    """Offers its discriminator's representation, for probes."""

    def discriminator_features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, F)``: what its last layer, which gives the score, is given.

        Radford et al. 2016 (arXiv:1511.06434, section 5.1) take the output of every layer instead,
        max-pooled to 4 × 4; of the layers here the last alone is the closest to the game.
        """


@runtime_checkable
class HasDiscriminatorScore(Protocol):
    """Offers its discriminator's verdict on an example, to find strange ones by."""

    def discriminator_score(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N,)``, high where it takes an example for real."""


CAPABILITIES: dict[str, type] = {
    "sample": Samples,
    "interpolate": HasLatent,
    "encode": Encodes,
    "reconstruct": Reconstructs,
    "log_likelihood": HasLikelihood,
    "complete": Completes,
    "translate": Translates,
    "classify": Classifies,
    "cluster": Clusters,
    "sweep_codes": SweepsCodes,
    "features": HasFeatures,
    "discriminator_features": HasDiscriminatorFeatures,
    "discriminator_score": HasDiscriminatorScore,
}


def capabilities(model: GenerativeModel | type[GenerativeModel]) -> list[str]:
    """The names of the capabilities a model (or a model class) has, in the order of the table."""
    methods = {
        name: [m for m in vars(protocol) if not m.startswith("_")]
        for name, protocol in CAPABILITIES.items()
    }
    return [
        name
        for name, needed in methods.items()
        if all(callable(getattr(model, method, None)) for method in needed)
    ]


# --- parts, as constructors name them -----------------------------------------------------------
class AdversarialObjective(Protocol):
    """What discriminator and generator minimise, per example, from logits or critic values.

    Attributes:
        output: what the score means: ``logit`` of being real; ``critic``, whose differences are a
            distance; ``energy`` ≥ 0, low on data; or a ``value`` that is high on data.
    """

    output: str

    def real(self, score: Tensor) -> Tensor:
        """Discriminator's loss of real examples: ``(N,)`` → ``(N,)``."""

    def fake(self, score: Tensor) -> Tensor:
        """Discriminator's loss of generated examples: ``(N,)`` → ``(N,)``."""

    def generator(self, score: Tensor) -> Tensor:
        """Generator's loss: ``(N,)`` → ``(N,)``."""


@runtime_checkable
class Adapts(Protocol):
    """An objective with a state of its own that moves once a step, such as BEGAN's k."""

    def adapt(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Take the mean scores of real and generated examples over all ranks; returns metrics."""


Slope = Callable[[Tensor], Tensor]
"""The gradient of each example's score at it, ``(N, *shape)`` → ``(N, *shape)``; differentiable in
the discriminator's weights."""


class Penalty(Protocol):
    """What the discriminator's loss gets on top of the objective; a pure function of its slope.

    Attributes:
        name: logged unweighted as ``penalty/<name>``.
        weight: its factor λ in the loss.
        precision: ``fp32`` computes it outside autocast, ``autocast`` in the run's precision.
    """

    name: str
    weight: float
    precision: str

    def check(self, network: nn.Module) -> None:
        """Refuse a discriminator for which the penalty is not defined, with a ConfigError."""

    def __call__(self, slope: Slope, real: Tensor, fake: Tensor, update: Update) -> Tensor:
        """Real and generated examples, both ``(N, *shape)`` → ``(N,)``, unweighted."""


class GeneratorTerm(Protocol):
    """What the generator's loss gets on top of the objective, from the discriminator's output.

    Attributes:
        name: logged unweighted as ``term/<name>``.
        weight: its factor in the loss.
        compares: it wants to see the discriminator's output on real examples too.
        replaces: it takes the place of the generator's objective.
    """

    name: str
    weight: float
    compares: bool
    replaces: bool

    def __call__(self, fake: Discrimination, real: Discrimination | None) -> Tensor:
        """Unweighted, a scalar."""


class Constraint(Protocol):
    """What is done to a network after every update of its player."""

    def __call__(self, network: nn.Module) -> None:
        """Put the weights back where they are allowed to be, in place."""


class Prior(Protocol):
    """A distribution over latents."""

    geometry: str
    """``sphere`` where lengths concentrate (slerp is right), ``flat`` otherwise (lerp)."""

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)``."""

    def log_prob(self, z: Tensor) -> Tensor:
        """``(…, latent_dim)`` → ``(…,)`` nats."""


GeneratorPart = Annotated[Callable[[int, tuple[int, ...]], nn.Module], Part("generator")]
"""Facts (latent_dim, shape); ``(N, latent_dim)`` → ``(N, *shape)``, images in [−1, 1]."""

DiscriminatorPart = Annotated[Callable[[tuple[int, ...]], nn.Module], Part("discriminator")]
"""Facts (shape); forward ``(N, *shape)`` → ``Discrimination``."""

EncoderPart = Annotated[Callable[[tuple[int, ...], int], nn.Module], Part("encoder")]
"""Facts (shape, outputs); forward ``(N, *shape)`` → ``(N, outputs)``."""

DecoderPart = Annotated[Callable[[int, tuple[int, ...]], nn.Module], Part("decoder")]
"""Facts (latent_dim, shape); forward ``(N, latent_dim)`` → ``(N, *shape)`` unbounded."""

DensityPart = Annotated[Callable[..., Any], Part("density")]
"""Facts (DataSpec); ``log_prob(x, rng)`` → ``(N,)`` nats, ``sample(n, rng)`` → ``(n, *shape)``."""

ClassifierPart = Annotated[Callable[[tuple[int, ...], int], nn.Module], Part("classifier")]
"""Facts (shape, classes); ``(N, *shape)`` → (features ``(N, F)``, logits ``(N, classes)``)."""

ObjectivePart = Annotated[Callable[[], AdversarialObjective], Part("objective")]
PenaltyPart = Annotated[Callable[[], Penalty], Part("penalty")]
TermPart = Annotated[Callable[[], GeneratorTerm], Part("term")]
ConstraintPart = Annotated[Callable[[], Constraint], Part("constraint")]
PriorPart = Annotated[Callable[[int], Prior], Part("prior")]
