"""The one place for the mechanics of an update. No model calls ``backward`` or ``step``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel, LossFn
from genctl.engine import distributed
from genctl.engine.averaging import Average
from genctl.engine.finite_step import step_where_finite
from genctl.engine.log import Window
from genctl.engine.optimisers import Rule, next_step
from genctl.engine.precision import autocast
from genctl.networks.layers.noise import drawing_layers, use_stream
from genctl.randomness import RandomStream
from genctl.registry import factory
from genctl.types import Batch, NextStep


@dataclass
class Player:
    """One player's parameters, its rule, and its record."""

    modules: tuple[str, ...]
    parameters: list[nn.Parameter]
    rule: Rule
    count: int = 0
    # On the device: skips in all, skips in a row now, and the longest such row so far.
    skipped: Tensor = field(default_factory=lambda: torch.zeros(3))


class _Waiting(NamedTuple):
    """An update whose gradients are taken and whose step is not made yet."""

    player: str
    gradients: list[Tensor | None]
    norm: Tensor


class Updater:
    """``update(player, loss_fn, batch)`` for every model; see ``contracts.Update``.

    Args:
        model: the model, on its device.
        config: the run's configuration; every player needs an optimiser.
        average: averaged copies to keep.
        precision: resolved number format.
        images: tells how many real examples were consumed so far.
    """

    def __init__(
        self,
        model: GenerativeModel,
        config: RunConfig,
        average: Average,
        precision: str,
        images: Callable[[], int],
    ) -> None:
        self.model, self.average, self.precision = model, average, precision
        self.clip, self.seed = config.train.clip, config.train.seed
        self.device = next(model.parameters()).device
        self.parameters = list(model.parameters())
        self.drawing = drawing_layers(model)
        self.players = {
            name: self._player(name, modules, config) for name, modules in model.players.items()
        }
        self.window = Window(model.gauges, model.rare)
        self.images = images
        self.step, self.logging = 0, False
        self.graphs = False  # networks are recorded as CUDA graphs
        self.first_loss: tuple[str, LossFn] | None = None  # of a batch, in a step that logs
        self.waiting: list[_Waiting] | None = None  # updates whose step is to come, inside at_once
        self.batch_size = config.train.batch_size // distributed.world_size()
        self.rng = self._stream()

    def _player(self, name: str, modules: Sequence[str], config: RunConfig) -> Player:
        parameters = [p for m in modules for p in self.model.get_submodule(m).parameters()]
        unique = list(dict.fromkeys(parameters))
        rule = factory("optimiser", config.optim[name])(unique)
        return Player(tuple(modules), unique, rule, skipped=torch.zeros(3, device=self.device))

    def _stream(self) -> RandomStream:
        return RandomStream(
            self.seed, "training", self.step, rank=distributed.rank(), device=self.device
        )

    def begin_step(self, step: int, logging: bool) -> None:
        """Start training step number ``step`` (from 1) with fresh noise."""
        self.step, self.logging, self.first_loss = step, logging, None
        self.rng = self._stream()
        use_stream(self.drawing, self.rng.fork("layers"))

    # --- the contract ---------------------------------------------------------------------------
    def __call__(
        self, player: str, loss_fn: LossFn, batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """One optimiser step of one player."""
        metrics, norm = self._gradients(player, loss_fn, batch)
        if self.waiting is None:
            self._apply(player, norm)
        else:
            gradients = [p.grad for p in self.players[player].parameters]
            self.waiting.append(_Waiting(player, gradients, norm))
        return metrics

    def together(
        self, losses: Mapping[str, LossFn], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """All gradients at the same weights, then all steps."""
        metrics: dict[str, Tensor] = {}
        with self.at_once():
            for player, loss_fn in losses.items():
                metrics |= self(player, loss_fn, batch)
        return metrics

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, updates only take their gradients; on leaving, all steps are made in turn."""
        waiting: list[_Waiting] = []
        self.waiting = waiting
        try:
            yield
        finally:
            self.waiting = None
        for player, gradients, norm in waiting:
            for parameter, gradient in zip(self.players[player].parameters, gradients, strict=True):
                parameter.grad = gradient
            self._apply(player, norm)

    def count(self, player: str) -> int:
        """How many updates the player has had, skipped ones included."""
        return self.players[player].count

    def next_step(self, player: str) -> NextStep:
        """What the player's optimiser is about to do."""
        found = self.players[player]
        lr = found.rule.lr * found.rule.schedule.factor(found.count)
        return next_step(found.rule.optimiser, lr, found.parameters, self.clip)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over ranks, on the device."""
        return distributed.mean(value)

    def gather(self, value: Tensor) -> Tensor:
        """Rows of every rank in the order of the global batch."""
        return distributed.gather(value)

    def read(self, value: Tensor) -> float:
        """Mean over ranks as a float; synchronises."""
        return float(distributed.mean(value.detach()))

    # --- the mechanics, in order ----------------------------------------------------------------
    def loss_of(
        self, name: str, loss_fn: LossFn, batch: Batch | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its metrics, with a graph to the player's parameters and to no other."""
        for parameter in self.parameters:
            parameter.grad = None
            parameter.requires_grad_(False)
        for parameter in self.players[name].parameters:
            parameter.requires_grad_(True)
        if self.graphs:  # what the last update's recordings gave is not needed any more
            torch.compiler.cudagraph_mark_step_begin()
        with autocast(self.device, self.precision):
            result = loss_fn() if batch is None else loss_fn(batch)
        return result if isinstance(result, tuple) else (result, {})

    def _gradients(
        self, name: str, loss_fn: LossFn, batch: Batch | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        player = self.players[name]
        if self.logging and batch is not None and self.first_loss is None:
            self.first_loss = name, loss_fn
        loss, metrics = self.loss_of(name, loss_fn, batch)
        loss.backward()
        distributed.average_gradients(player.parameters)
        gradients = [p.grad for p in player.parameters if p.grad is not None]
        norm = _total_norm(gradients, self.device)
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(player.parameters, self.clip, norm)
        metrics = {f"loss/{name}": loss, **metrics}
        metrics = {key: value.detach() for key, value in metrics.items()}
        self.window.add({**metrics, f"grad_norm/{name}": norm})
        return metrics, norm

    @torch.no_grad()
    def _apply(self, name: str, norm: Tensor) -> None:
        player = self.players[name]
        rule = player.rule
        for group in rule.optimiser.param_groups:
            group["lr"] = rule.lr * rule.schedule.factor(player.count)
        if self.device.type == "cpu" and math.isfinite(norm.item()) and not player.skipped[1]:
            rule.optimiser.step()  # nothing to decide, nothing to count
        else:
            bad = (~torch.isfinite(norm)).to(torch.float32)  # as the fused kernels read it
            step_where_finite(rule.optimiser, player.parameters, bad)
            total, streak, longest = player.skipped.unbind()
            streak = (streak + bad) * bad
            player.skipped = torch.stack([total + bad, streak, torch.maximum(longest, streak)])
        player.count += 1
        self.average.update(self.model, player.modules, self.images())
        self.model.after_update(name)


def _total_norm(gradients: list[Tensor], device: torch.device) -> Tensor:
    """L2 norm of all gradients, which are of one device and dtype; 0 where there is none."""
    if not gradients:
        return torch.zeros((), device=device)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
