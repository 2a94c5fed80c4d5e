"""Optimisers by name, fused where torch has a fused kernel for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import nn

from genctl.engine.schedules import Schedule
from genctl.registry import Part, default, register
from genctl.types import NextStep

SchedulePart = Annotated[Callable[[], Schedule], Part("schedule")]
Rate = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Rule(Protocol):
    """A torch optimiser and the schedule of its rate."""

    optimiser: torch.optim.Optimizer
    schedule: Schedule
    lr: float


class _Rule:
    def __init__(
        self, optimiser: torch.optim.Optimizer, lr: float, schedule: Callable[[], Schedule]
    ) -> None:
        self.optimiser, self.lr, self.schedule = optimiser, lr, schedule()


def _fused(parameters: Sequence[nn.Parameter]) -> bool:
    """Fused kernels exist for floating-point parameters on CPU, CUDA and MPS."""
    return all(p.device.type in ("cpu", "cuda", "mps") for p in parameters)


@register("optimiser", "adam")
def adam(
    parameters: Sequence[nn.Parameter],
    *,
    lr: Rate,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Rate = 1e-8,
    weight_decay: NonNegative = 0.0,
    schedule: SchedulePart = default("schedule", "constant"),
) -> Rule:
    """Adam (Kingma & Ba 2015)."""
    return _adam(torch.optim.Adam, parameters, lr, betas, eps, weight_decay, schedule)


@register("optimiser", "adamw")
def adamw(
    parameters: Sequence[nn.Parameter],
    *,
    lr: Rate,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Rate = 1e-8,
    weight_decay: NonNegative = 0.01,
    schedule: SchedulePart = default("schedule", "constant"),
) -> Rule:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return _adam(torch.optim.AdamW, parameters, lr, betas, eps, weight_decay, schedule)


def _adam(
    kind: type[torch.optim.Adam],
    parameters: Sequence[nn.Parameter],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    schedule: Callable[[], Schedule],
) -> Rule:
    fused = _fused(parameters)
    optimiser = kind(
        parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused
    )
    return _Rule(optimiser, lr, schedule)


@register("optimiser", "sgd")
def sgd(
    parameters: Sequence[nn.Parameter],
    *,
    lr: Rate,
    momentum: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    schedule: SchedulePart = default("schedule", "constant"),
) -> Rule:
    """Stochastic gradient descent, with momentum if asked."""
    # Not fused: the fused kernel leaves its momentum undefined when the first step is skipped.
    optimiser = torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True
    )
    return _Rule(optimiser, lr, schedule)


@register("optimiser", "rmsprop")
def rmsprop(
    parameters: Sequence[nn.Parameter],
    *,
    lr: Rate,
    alpha: NonNegative = 0.99,
    eps: Rate = 1e-8,
    momentum: NonNegative = 0.0,
    schedule: SchedulePart = default("schedule", "constant"),
) -> Rule:
    """RMSProp (Tieleman & Hinton 2012), WGAN's choice."""
    # Capturable: its count of steps is kept on the device, where a skipped step is taken back.
    on_device = all(p.device.type == "cuda" for p in parameters)
    optimiser = torch.optim.RMSprop(
        parameters,
        lr=lr,
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        foreach=True,
        capturable=on_device,
    )
    # Torch would warn everyone that nothing is captured; here it is meant.
    optimiser._warned_capturable_if_run_uncaptured = True
    return _Rule(optimiser, lr, schedule)


KINDS: dict[type[torch.optim.Optimizer], tuple[str, tuple[str, ...]]] = {
    torch.optim.Adam: ("adam", ("lr", "betas", "eps", "weight_decay")),
    torch.optim.AdamW: ("adamw", ("lr", "betas", "eps", "weight_decay")),
    torch.optim.SGD: ("sgd", ("lr", "momentum", "weight_decay")),
    torch.optim.RMSprop: ("rmsprop", ("lr", "alpha", "eps", "momentum")),
}
"""The name of each of torch's optimisers here, and the settings that decide its step."""


def next_step(
    optimiser: torch.optim.Optimizer,
    lr: float,
    parameters: Sequence[nn.Parameter],
    clip: float | None = None,
) -> NextStep:
    """What an optimiser is about to do at the rate ``lr``, for models that look ahead."""
    kind, names = KINDS.get(type(optimiser), (type(optimiser).__name__, ()))
    settings = {name: optimiser.param_groups[0][name] for name in names} | {"lr": lr}
    return NextStep(kind, settings, [optimiser.state.get(p, {}) for p in parameters], clip)
