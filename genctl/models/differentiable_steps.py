"""Optimiser steps as pure functions of weights, gradient and moments, differentiable in all three.

What torch's optimisers do in place, for models that differentiate through a step (unrolled GANs).
Weights, gradient and moments of a network are one vector each: a step is then a few operations,
however many layers there are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from genctl.errors import ConfigError
from genctl.types import NextStep

Moments = dict[str, Tensor]
Step = Callable[[Tensor, Tensor, Moments], tuple[Tensor, Moments]]
"""Weights ``(P,)``, gradient ``(P,)`` and moments → the next weights and moments."""


def adam(
    weights: Tensor,
    gradient: Tensor,
    moments: Moments,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[Tensor, Moments]:
    """Adam (Kingma & Ba 2015, algorithm 1), or with decoupled decay AdamW.

    The root is taken of v plus the smallest normal number: far below ε², but where a weight never
    had a gradient the root of zero itself has no derivative.
    """
    if weight_decay and decoupled:
        weights = weights * (1.0 - lr * weight_decay)
    elif weight_decay:
        gradient = gradient + weight_decay * weights
    beta1, beta2 = betas
    t = moments["step"].to(weights.dtype) + 1
    m = torch.lerp(moments["exp_avg"], gradient, 1.0 - beta1)
    v = torch.addcmul(beta2 * moments["exp_avg_sq"], gradient, gradient, value=1.0 - beta2)
    first, second = _correction(beta1, t), _correction(beta2, t).sqrt()
    root = (v + torch.finfo(v.dtype).tiny).sqrt()
    # lr·m̂ / (√v̂ + ε), both corrections taken out of the vectors.
    weights = weights - (lr * second / first) * (m / (root + eps * second))
    return weights, {"step": t, "exp_avg": m, "exp_avg_sq": v}


def sgd(
    weights: Tensor,
    gradient: Tensor,
    moments: Moments,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Tensor, Moments]:
    """Stochastic gradient descent, with momentum if asked."""
    if weight_decay:
        gradient = gradient + weight_decay * weights
    if not momentum:
        return weights - lr * gradient, {}
    velocity = momentum * moments["momentum_buffer"] + gradient
    return weights - lr * velocity, {"momentum_buffer": velocity}


def rmsprop(
    weights: Tensor,
    gradient: Tensor,
    moments: Moments,
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
) -> tuple[Tensor, Moments]:
    """RMSProp (Tieleman & Hinton 2012), ε outside the root."""
    v = torch.addcmul(alpha * moments["square_avg"], gradient, gradient, value=1.0 - alpha)
    change = gradient / ((v + torch.finfo(v.dtype).tiny).sqrt() + eps)
    if not momentum:
        return weights - lr * change, {"square_avg": v}
    velocity = momentum * moments["momentum_buffer"] + change
    return weights - lr * velocity, {"square_avg": v, "momentum_buffer": velocity}


STEPS: Mapping[str, tuple[Callable[..., tuple[Tensor, Moments]], tuple[str, ...]]] = {
    "adam": (functools.partial(adam, decoupled=False), ("exp_avg", "exp_avg_sq")),
    "adamw": (functools.partial(adam, decoupled=True), ("exp_avg", "exp_avg_sq")),
    "sgd": (sgd, ("momentum_buffer",)),
    "rmsprop": (rmsprop, ("square_avg", "momentum_buffer")),
}
"""By kind: the step, and the moments that have the weights' shape."""


def begin(coming: NextStep, parameters: Sequence[Tensor]) -> tuple[Step, Moments]:
    """A player's optimiser as a pure step, and its moments as they are now.

    Args:
        coming: what the optimiser is about to do.
        parameters: the player's, in its order.

    Raises:
        ConfigError: the optimiser's step has no differentiable twin here.
    """
    if coming.kind not in STEPS:
        raise ConfigError(
            "optim.discriminator.kind",
            [f"{coming.kind} cannot be differentiated through, as model.unroll asks"],
            f"one of {', '.join(STEPS)}, or --set model.unroll=0",
        )
    step, names = STEPS[coming.kind]
    pairs = list(zip(coming.moments, parameters, strict=True))
    moments = {name: flat([_known(kept.get(name), p) for kept, p in pairs]) for name in names}
    counts = [kept["step"] for kept in coming.moments if "step" in kept]
    moments["step"] = counts[0].clone() if counts else torch.zeros((), device=parameters[0].device)
    return functools.partial(step, **coming.settings), moments


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All values as one new vector ``(P,)``."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def unflat(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The vector's parts in the shapes of ``like``; views, through which gradients flow."""
    parts = vector.split([t.numel() for t in like])
    return [part.view(t.shape) for part, t in zip(parts, like, strict=True)]


def _known(moment: Tensor | None, parameter: Tensor) -> Tensor:
    """A parameter that has not been updated yet has no moments: they begin at zero."""
    return torch.zeros_like(parameter) if moment is None else moment


def _correction(beta: float, t: Tensor) -> Tensor:
    """1 − βᵗ, exact to float32 for β near 1 too."""
    return -torch.expm1(t * math.log(beta)) if beta > 0 else torch.ones_like(t)
