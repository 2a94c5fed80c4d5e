"""Three ways to a generator of symbols, through which no gradient passes.

They are those of Goodfellow's tutorial (arXiv:1701.00160, section 5.3). Each says how many numbers
the generator gives for one symbol, what the discriminator sees of a symbol, and how the
generator's cost becomes a loss. Tensors hold one symbol of K in ``(N, C, H, W)`` int64, and numbers
for each symbol in ``(N, C, H, W, numbers)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from genctl.contracts import LossResult, Update
from genctl.distributions.categorical import Categorical
from genctl.distributions.relaxed_categorical import RelaxedCategorical
from genctl.errors import ConfigError
from genctl.objectives.score_function import leave_one_out, score_function
from genctl.randomness import RandomStream
from genctl.registry import Part, register

Judge = Callable[[Tensor], Tensor]
"""The generator's objective, ``(N, …, seen)`` → ``(N,)``: what the examples shown cost it."""

Positive = Annotated[float, Field(gt=0)]


class DiscreteOutput(nn.Module):
    """How a generator's numbers become symbols, and how its gradient comes back.

    Args:
        levels: K, how many symbols there are.

    Attributes:
        given: numbers that the generator gives for one symbol.
        seen: numbers that the discriminator sees for one symbol.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = self.given = self.seen = levels

    def real(self, symbols: Tensor, rng: RandomStream) -> Tensor:
        """What the discriminator sees of real symbols: one-hot vectors."""
        return one_hot(symbols, self.levels).float()

    def fake(self, numbers: Tensor, update: Update) -> Tensor:
        """What it sees of generated ones, while it is trained itself."""
        return one_hot(Categorical(numbers).sample(update.rng), self.levels).to(numbers)

    def loss(self, numbers: Tensor, judge: Judge, update: Update) -> LossResult:
        """The generator's loss, a scalar, and metrics."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    def draw(self, numbers: Tensor, rng: RandomStream) -> Tensor:
        """Symbols from the generator's distribution."""
        return Categorical(numbers).sample(rng)

    def mode(self, numbers: Tensor) -> Tensor:
        """The most probable symbols."""
        return numbers.argmax(-1)

    def adapt(self, seen: Mapping[str, Tensor], update: Update) -> dict[str, Tensor]:
        """Move a state of its own after the generator's update; returns metrics."""
        return {}


OutputPart = Annotated[Callable[[int], DiscreteOutput], Part("discrete-output")]
"""Facts (levels)."""


@register("discrete-output", "reinforce")
class Reinforce(DiscreteOutput):
    """Draws symbols and weighs their log-probability by what they cost (Williams 1992).

    The gradient is unbiased; only its variance is at stake. The moving average is one number over
    all latents; the mean cost of the other draws of the same latent also takes away what depends
    on the latent, and needs at least two draws.

    Args:
        levels: K.
        samples: draws for each latent. The discriminator judges them all, without a gradient.
        baseline: what is taken off the cost.
        decay: of the moving average, once in an update.
    """

    average: Tensor
    weight: Tensor

    def __init__(
        self,
        levels: int,
        *,
        samples: Annotated[int, Field(ge=1)] = 8,
        baseline: Literal["none", "moving-average", "leave-one-out"] = "leave-one-out",
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    ) -> None:
        super().__init__(levels)
        if baseline == "leave-one-out" and samples < 2:
            raise ConfigError(
                "model.output.baseline",
                ["one draw for each latent leaves no others to average over"],
                "--set model.output.samples=8, or --set model.output.baseline=moving-average",
            )
        self.samples, self.baseline, self.decay = samples, baseline, decay
        # The average and the weight it has gathered: their quotient is free of the start's bias.
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def loss(self, numbers: Tensor, judge: Judge, update: Update) -> LossResult:
        """Mean cost, with (cost − b) ∇ log p(symbols) as its gradient."""
        p = Categorical(numbers)
        draws = [p.sample(update.rng) for _ in range(self.samples)]
        log_prob = torch.stack([p.log_prob(draw) for draw in draws])
        with torch.no_grad():
            shown = one_hot(torch.cat(draws), self.levels).to(numbers)
            cost = judge(shown).view_as(log_prob)
        b = self.baseline_of(cost)
        metrics = {"reinforce/cost": cost.mean(), "reinforce/advantage": (cost - b).abs().mean()}
        return score_function(log_prob, cost, b).mean(), metrics

    def baseline_of(self, cost: Tensor) -> Tensor:
        """What is taken off each cost ``(samples, N)``; it never depends on that cost itself."""
        if self.baseline == "leave-one-out":
            return leave_one_out(cost)
        if self.baseline == "none":
            return torch.zeros_like(cost)
        # Of earlier updates only; 0 before the first.
        return (self.average / self.weight.clamp_min(1e-12)).to(cost).expand_as(cost)

    @torch.no_grad()
    def adapt(self, seen: Mapping[str, Tensor], update: Update) -> dict[str, Tensor]:
        """Take the mean cost over all ranks into the moving average."""
        if self.baseline != "moving-average":
            return {}
        cost = update.mean(seen["reinforce/cost"]).float()
        share = (1.0 - self.decay) * cost.isfinite()  # none of a batch whose update was skipped
        self.average.lerp_(cost.nan_to_num(0.0, 0.0, 0.0), share)
        self.weight.lerp_(torch.ones_like(cost), share)
        return {"reinforce/baseline": self.average / self.weight.clamp_min(1e-12)}


@register("discrete-output", "gumbel-softmax")
class GumbelSoftmax(DiscreteOutput):
    """Shows relaxed draws, and differentiates through them (arXiv:1611.01144, arXiv:1611.04051).

    Args:
        levels: K.
        straight_through: show one-hot draws and use the relaxed ones for the gradient only. The
            discriminator can then not tell by the values alone.
        temperature: τ at the start: a low one is less biased, a high one less noisy.
        final_temperature: τ from ``anneal_steps`` on; in between it falls geometrically.
        anneal_steps: training steps.
    """

    def __init__(
        self,
        levels: int,
        *,
        straight_through: bool = True,
        temperature: Positive = 1.0,
        final_temperature: Positive = 0.5,
        anneal_steps: Annotated[int, Field(ge=1)] = 5000,
    ) -> None:
        super().__init__(levels)
        self.straight_through, self.anneal_steps = straight_through, anneal_steps
        self.ends = temperature, final_temperature

    def temperature(self, step: int) -> float:
        """τ of a training step, counted from 1: a function of the step, so a resumed run agrees."""
        first, last = self.ends
        share = min(1.0, (step - 1) / self.anneal_steps)
        return float(first * (last / first) ** share)

    def fake(self, numbers: Tensor, update: Update) -> Tensor:
        """Relaxed draws at the step's temperature, one-hot if straight through."""
        q = RelaxedCategorical(numbers, self.temperature(update.step))
        return (q.straight_through if self.straight_through else q.rsample)(update.rng)

    def loss(self, numbers: Tensor, judge: Judge, update: Update) -> LossResult:
        """Mean cost of relaxed draws, differentiated through them."""
        temperature = numbers.new_full((), self.temperature(update.step))
        return judge(self.fake(numbers, update)).mean(), {"gumbel/temperature": temperature}


@register("discrete-output", "embedding")
class Embedding(DiscreteOutput):
    """Draws points of a continuous space that stand for the nearest symbol (arXiv:1701.00160).

    The generator gives the mean of a Gaussian for each symbol; the discriminator compares its
    draws with the embeddings of real symbols, blurred by the same Gaussian. Without the blur the
    embeddings are points that no continuous distribution covers, and the discriminator would be
    sure (arXiv:1701.04862). Equal blurred distributions have equal means' distributions, so the
    mean is what is decoded. The embeddings are fixed and orthonormal: learned in the game, they
    would shrink to a point, where the discriminator tells nothing apart.

    Args:
        levels: K.
        embedding_dim: dimensions of the space, at least K.
        noise: standard deviation of the Gaussian along each axis; two embeddings lie √2 apart.
    """

    codes: Tensor

    def __init__(
        self,
        levels: int,
        *,
        embedding_dim: Annotated[int, Field(ge=2)] = 4,
        noise: Positive = 0.3,
    ) -> None:
        super().__init__(levels)
        if embedding_dim < levels:
            raise ConfigError(
                "model.output.embedding_dim",
                [f"{levels} orthonormal embeddings do not fit into {embedding_dim} dimensions"],
                f"--set model.output.embedding_dim={levels}",
            )
        self.given = self.seen = embedding_dim
        self.noise = noise
        self.register_buffer("codes", nn.init.orthogonal_(torch.empty(levels, embedding_dim)))

    def real(self, symbols: Tensor, rng: RandomStream) -> Tensor:
        """Embeddings of the symbols, blurred."""
        return self._blurred(self.codes[symbols], rng)

    def fake(self, numbers: Tensor, update: Update) -> Tensor:
        """Draws from the generator's Gaussians."""
        return self._blurred(numbers, update.rng)

    def loss(self, numbers: Tensor, judge: Judge, update: Update) -> LossResult:
        """Mean cost of the draws, differentiated through their means."""
        with torch.no_grad():
            off = torch.linalg.vector_norm(numbers - self.codes[self.mode(numbers)], dim=-1)
        return judge(self.fake(numbers, update)).mean(), {"embedding/distance": off.mean()}

    def draw(self, numbers: Tensor, rng: RandomStream) -> Tensor:
        """The nearest symbols: the randomness is all in the latents."""
        return self.mode(numbers)

    def mode(self, numbers: Tensor) -> Tensor:
        """The nearest symbols; embeddings are equally long, so nearest is most aligned."""
        return (numbers @ self.codes.to(numbers).t()).argmax(-1)

    def _blurred(self, x: Tensor, rng: RandomStream) -> Tensor:
        return x + self.noise * rng.normal(x.shape[0], *x.shape[1:]).to(x)
