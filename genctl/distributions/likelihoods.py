"""What a decoder's output means: the observation model p(x|z), for pictures and for points.

Pictures have levels, so each ``log_prob`` here is a log-probability of levels, or a lower bound of
one, never a density that could grow without end. For a density p the probability of a level is its
integral over the level's bin of width w, and by Jensen's inequality

    log ∫ p(x + u) du ≥ log w + E_u[log p(x + u)],  u uniform on [−w/2, w/2],

which has a closed form for the Gaussian and the Laplace: uniform dequantisation without noise. The
bins outermost reach further, which only raises the left side. Points have no levels: density.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.data.ranges import from_unit, log_level_width, to_unit
from genctl.distributions.bernoulli import Bernoulli, require_binary
from genctl.distributions.discretised_logistic import DiscretisedLogistic
from genctl.distributions.event import normal_like, sum_event, uniform_like
from genctl.distributions.gaussian import HALF_LOG_TWO_PI
from genctl.errors import ConfigError
from genctl.randomness import RandomStream
from genctl.registry import Part, register
from genctl.types import DataSpec

Scale = Annotated[float, Field(gt=0)] | None
FIRST_SCALE = 0.25
"""Where a learned scale starts: an eighth of the pictures' range."""


class ObservationModel(Protocol):
    """p(x|z), given the decoder's output ``(N, *shape)``, which is unbounded."""

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Log-probability of pictures, log-density of points: ``(N, *shape)`` → ``(N,)`` nats."""

    def mean(self, output: Tensor) -> Tensor:
        """The picture to show, ``(N, *shape)`` in [−1, 1]; or the mean point."""

    def sample(self, output: Tensor, rng: RandomStream) -> Tensor:
        """A draw of x with its noise, ``(N, *shape)``."""


LikelihoodPart = Annotated[Callable[[DataSpec], ObservationModel], Part("likelihood")]
"""Facts (DataSpec); an ``nn.Module``, so that its scale can be learned."""


@register("likelihood", "bernoulli")
class BernoulliLikelihood(nn.Module):
    """Pixels are −1 or +1; the decoder gives logits. For binarised images."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        require_binary(spec, "model.likelihood")

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Exact log-probability, ``(N,)`` nats."""
        return Bernoulli(output).log_prob(to_unit(x))

    def mean(self, output: Tensor) -> Tensor:
        """The probabilities as grey values, ``(N, *shape)`` in [−1, 1]."""
        return from_unit(Bernoulli(output).mean)

    def sample(self, output: Tensor, rng: RandomStream) -> Tensor:
        """``(N, *shape)``, −1 or +1."""
        return from_unit(Bernoulli(output).sample(rng))


class _Scaled(nn.Module):
    """A location from the decoder, and one scale per channel, fixed or learned."""

    def __init__(self, spec: DataSpec, scale: float | None) -> None:
        super().__init__()
        self.picture = spec.kind == "image"
        self.levels = spec.levels
        self.log_width = log_level_width(spec.levels) if self.picture else 0.0
        self.width = math.exp(self.log_width) if self.picture else 0.0
        shape = (spec.shape[0], *(1 for _ in spec.shape[1:]))
        log_scale = torch.full(shape, math.log(FIRST_SCALE if scale is None else scale))
        self.log_scale = nn.Parameter(log_scale)
        if scale is not None:
            del self.log_scale
            self.register_buffer("log_scale", log_scale)

    def mean(self, output: Tensor) -> Tensor:
        """The location, within [−1, 1] for pictures."""
        return output.clamp(-1.0, 1.0) if self.picture else output

    def _observe(self, x: Tensor) -> Tensor:
        return x.clamp(-1.0, 1.0) if self.picture else x


@register("likelihood", "gaussian")
class GaussianLikelihood(_Scaled):
    """Gaussian noise around the decoder's output, on the scale of [−1, 1]; squared error."""

    def __init__(self, spec: DataSpec, *, scale: Scale = None) -> None:
        super().__init__(spec, scale)

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Pictures: lower bound of the levels' log-probability; points: log-density. ``(N,)`` nats.

        E_u (x + u − μ)² = (x − μ)² + w²/12.
        """
        square = (x - output).square() + self.width**2 / 12.0
        terms = -0.5 * square * torch.exp(-2.0 * self.log_scale) - self.log_scale
        return sum_event(terms - HALF_LOG_TWO_PI + self.log_width)

    def sample(self, output: Tensor, rng: RandomStream) -> Tensor:
        """``(N, *shape)`` with the noise of p(x|z), pictures clamped to [−1, 1]."""
        return self._observe(output + self.log_scale.exp() * normal_like(output, rng))


@register("likelihood", "laplace")
class LaplaceLikelihood(_Scaled):
    """Laplace noise around the decoder's output, on the scale of [−1, 1]; absolute error."""

    def __init__(self, spec: DataSpec, *, scale: Scale = None) -> None:
        super().__init__(spec, scale)

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Pictures: lower bound of the levels' log-probability; points: log-density. ``(N,)`` nats.

        E_u |d + u| = |d| where |d| ≥ w/2, else d²/w + w/4.
        """
        distance = (x - output).abs()
        if self.width:
            near = distance.square() / self.width + 0.25 * self.width
            distance = torch.where(distance < 0.5 * self.width, near, distance)
        terms = -distance * torch.exp(-self.log_scale) - self.log_scale - math.log(2.0)
        return sum_event(terms + self.log_width)

    def sample(self, output: Tensor, rng: RandomStream) -> Tensor:
        """``(N, *shape)`` with the noise of p(x|z), pictures clamped to [−1, 1]."""
        centred = uniform_like(output, rng) - 0.5
        tail = torch.log1p(-2.0 * centred.abs().clamp(max=0.4999999))
        return self._observe(output - self.log_scale.exp() * centred.sign() * tail)


@register("likelihood", "discretised-logistic")
class DiscretisedLogisticLikelihood(_Scaled):
    """Logistic noise integrated over each level's bin: exact probabilities of 8-bit pictures."""

    def __init__(self, spec: DataSpec, *, scale: Scale = None) -> None:
        super().__init__(spec, scale)
        if not self.picture:
            problem = "discretised-logistic needs images, found points"
            raise ConfigError("model.likelihood", [problem], "set model.likelihood=gaussian")

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Exact log-probability of the levels, ``(N,)`` nats."""
        return DiscretisedLogistic(output, self.log_scale, self.levels).log_prob(x)

    def sample(self, output: Tensor, rng: RandomStream) -> Tensor:
        """``(N, *shape)``, on the levels."""
        return DiscretisedLogistic(output, self.log_scale, self.levels).sample(rng)
