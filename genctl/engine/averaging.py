"""Averaged copies of a model's networks: exponential (EMA) or the mean of the last n iterates."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from genctl.config.schema import EmaConfig
from genctl.contracts import GenerativeModel


class Average:
    """Averaged copies of the sub-modules that ``model.averaged`` names.

    The exponential average after an update that brought the images seen from a to b is
    ``avg ← d·avg + (1−d)·weights`` with ``d = ½^((b−a)/h)``, where the half-life ``h`` is the
    configured one, or ``warmup·b`` while that is smaller, so early weights are forgotten fast.
    Buffers (batch-norm statistics) are copied, not averaged.
    """

    def __init__(self, model: GenerativeModel, config: EmaConfig) -> None:
        self.config = config
        on = config.half_life_images is not None or config.last is not None
        self.modules: dict[str, nn.Module] = {
            name: copy.deepcopy(model.get_submodule(name)).eval().requires_grad_(False)
            for name in (model.averaged if on else ())
        }
        # Walking a module tree costs more than averaging a small network.
        self.parameters = {name: self._pairs(model, name, "parameters") for name in self.modules}
        self.buffers = {name: self._pairs(model, name, "buffers") for name in self.modules}
        self.images_at: dict[str, int] = dict.fromkeys(self.modules, 0)
        self.rings: dict[str, deque[list[Tensor]]] = {
            name: deque(maxlen=config.last) for name in self.modules if config.last
        }

    def _pairs(
        self, model: GenerativeModel, name: str, what: Literal["parameters", "buffers"]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors of the average and those that it follows, in the same order."""
        both = self.modules[name], model.get_submodule(name)
        ours, theirs = (list(getattr(module, what)()) for module in both)
        return ours, theirs

    @torch.no_grad()
    def update(self, model: GenerativeModel, names: Sequence[str], images: int) -> None:
        """Take the present weights of the named sub-modules into their averages.

        Args:
            model: the model being trained.
            names: sub-modules that were just updated; those not averaged are passed over.
            images: real examples seen so far.
        """
        for name in names:
            if name not in self.modules:
                continue
            ours, theirs = self.parameters[name]
            if not ours:  # a sub-module without parameters, a fixed prior say
                pass
            elif self.config.last is not None:
                self._slide(name, ours, theirs)
            else:
                weight = 1.0 - self._decay(self.images_at[name], images)
                torch._foreach_lerp_(ours, theirs, weight)
            self.images_at[name] = images
            for mine, current in zip(*self.buffers[name], strict=True):
                mine.copy_(current)

    def _decay(self, before: int, now: int) -> float:
        assert self.config.half_life_images is not None
        half_life = self.config.half_life_images
        if self.config.warmup > 0:
            half_life = min(half_life, self.config.warmup * now)
        return 0.5 ** ((now - before) / half_life) if half_life > 0 else 0.0

    def _slide(self, name: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
        ring = self.rings[name]
        ring.append([p.detach().clone() for p in theirs])
        for i, mine in enumerate(ours):
            mine.copy_(torch.stack([iterate[i] for iterate in ring]).mean(0))

    @contextmanager
    def applied(self, model: GenerativeModel) -> Iterator[None]:
        """Let the model use its averaged sub-modules inside the block."""
        current = {name: model.get_submodule(name) for name in self.modules}
        try:
            for name, module in self.modules.items():
                model.set_submodule(name, module)
            yield
        finally:
            for name, module in current.items():
                model.set_submodule(name, module)

    def state(self) -> dict[str, Tensor]:
        """The averages as tensors, keyed like the model's own ``state_dict``."""
        return {
            f"{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` returned."""
        for name, module in self.modules.items():
            start = f"{name}."
            own = {
                key[len(start) :]: value for key, value in state.items() if key.startswith(start)
            }
            module.load_state_dict(own)

    def history(self) -> dict[str, Tensor]:
        """The stored iterates, empty for the exponential average."""
        return {
            f"{name}/{i}/{j}": tensor
            for name, ring in self.rings.items()
            for i, iterate in enumerate(ring)
            for j, tensor in enumerate(iterate)
        }

    def load_history(self, history: dict[str, Tensor], device: torch.device) -> None:
        """Restore what ``history`` returned."""
        for name, ring in self.rings.items():
            ring.clear()
            while f"{name}/{len(ring)}/0" in history:
                i, size = len(ring), len(list(self.modules[name].parameters()))
                ring.append([history[f"{name}/{i}/{j}"].to(device) for j in range(size)])
