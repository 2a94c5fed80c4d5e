"""Unrolled GAN (Metz et al. 2017, arXiv:1611.02163): the generator looks k steps ahead.

The generator descends f(θ_G, θ_D^K), where θ_D^K are the discriminator's weights after k steps of
its own optimiser (eq. 7–10), clipped as its own are, and differentiates through those steps; the
discriminator itself takes its ordinary single step: before the generator, or with a simultaneous
``play`` from the same weights. What the paper's sections leave open is settled as in the authors'
notebook: all k steps and f use one and the same batch of real and one of generated examples, that
of the discriminator's update, and the steps begin from the discriminator's own Adam moments. Fresh
moments would be another lookahead: Adam's first step is lr·sign(gradient), whose derivative is
zero, so that the generator would learn nothing from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from genctl.across_ranks import mean_over_ranks
from genctl.contracts import AdversarialObjective
from genctl.errors import ConfigError
from genctl.models.differentiable_steps import begin, flat, unflat
from genctl.types import NextStep


class Judgement(NamedTuple):
    """What the discriminator's update looks at.

    Attributes:
        loss: J_D with everything that is added to it, a scalar.
        real: scores of real examples, ``(N,)``.
        fake: scores of generated examples, ``(N,)``.
        metrics: of the parts of the loss.
    """

    loss: Tensor
    real: Tensor
    fake: Tensor
    metrics: dict[str, Tensor]


def unrolled_loss(
    model: nn.Module,
    objective: AdversarialObjective,
    judge: Callable[[], Judgement],
    coming: NextStep,
    steps: int,
    zero_sum: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """f(θ_G, θ_D^K), a scalar, and metrics.

    In a zero-sum game f is −J_D at θ_D^K (eq. 10): J_D on real examples counts too, because θ_D^K
    depends on the generator. With any other objective it is the generator's own loss there.

    Args:
        model: has the discriminator as sub-module ``discriminator``.
        objective: of the game.
        judge: asks the model's discriminator; generated examples carry the generator's graph.
        coming: what the discriminator's optimiser is about to do.
        steps: k.
        zero_sum: what ``is_zero_sum`` says of the objective.

    Returns:
        The loss, the mean score of generated examples by the discriminator of now, and J_D after k
        steps as ``unrolled/discriminator``.
    """
    network = model.get_submodule("discriminator")
    ask, weights = _Ask(model), list(network.parameters())
    places = {id(weight): i for i, weight in enumerate(weights)}
    # Every name of a shared weight: functional_call then need not look for those itself.
    named = network.named_parameters(_Ask.NAME, remove_duplicate=False)
    names = [(name, places[id(weight)]) for name, weight in named]
    buffers: dict[str, Tensor] = dict(network.named_buffers(_Ask.NAME))

    def judge_at(theta: Tensor) -> Judgement:
        # Statistics and power iterations move along, but only in the discriminator looked ahead to.
        buffers.update({name: buffer.clone() for name, buffer in buffers.items()})
        parts = unflat(theta, weights)
        state = {**{name: parts[i] for name, i in names}, **buffers}
        found: Judgement = functional_call(ask, state, (judge,), tie_weights=False)
        return found

    step, moments = begin(coming, weights)
    theta = flat(weights).requires_grad_()
    seen: list[Judgement] = []
    for _ in range(steps):
        seen.append(judge_at(theta))
        (gradient,) = torch.autograd.grad(seen[-1].loss, theta, create_graph=True)
        gradient = _clipped(mean_over_ranks(gradient), coming.clip)
        theta, moments = step(theta, gradient, moments)
    last = judge_at(theta)
    value = objective.real(last.real).mean() + objective.fake(last.fake).mean()
    loss = -value if zero_sum else objective.generator(last.fake).mean()
    metrics = {"score/generator": seen[0].fake.mean(), "unrolled/discriminator": value}
    return loss, metrics


def _clipped(gradient: Tensor, largest: float | None) -> Tensor:
    """As torch's clip_grad_norm_ scales it, differentiably."""
    if largest is None:
        return gradient
    return gradient * (largest / (gradient.norm() + 1e-6)).clamp(max=1.0)


def is_zero_sum(objective: AdversarialObjective) -> bool:
    """Whether the generator's loss is minus the discriminator's on generated examples."""
    with torch.device("cpu"):  # numbers are compared, which a model that is only sketched lacks
        score = torch.linspace(-2.0, 2.0, 9)
        return torch.equal(objective.generator(score), -objective.fake(score))


class _Ask(nn.Module):
    """Answers a question about a model, so that ``functional_call`` can change its weights."""

    NAME = "model.discriminator"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, question: Callable[[], Any]) -> Any:
        return question()


def refuse_what_does_not_unroll(constrained: bool, terms: bool) -> None:
    """Raises: ConfigError: with what to leave out."""
    if constrained:
        raise ConfigError(
            "model.unroll",
            ["the steps looked ahead to would leave the weights that model.constraint allows"],
            "--set model.constraint=null (or a penalty instead), or --set model.unroll=0",
        )
    if terms:
        raise ConfigError(
            "model.unroll",
            ["model.terms compare with the discriminator of now, not with that of k steps later"],
            "--set model.terms=[], or --set model.unroll=0",
        )
