"""Where the time of a training step goes, in coarse parts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from genctl.contracts import LossFn, Update
from genctl.engine.state import Training
from genctl.types import Batch


class _Watched:
    """An update that keeps the time of each player, and of the optimisers apart."""

    def __init__(self, update: Update, wait: Callable[[], None]) -> None:
        self.update, self.wait = update, wait
        self.spent: dict[str, float] = defaultdict(float)
        self.started: float = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.update, name)

    def __call__(
        self, player: str, loss_fn: LossFn, batch: Batch | None = None
    ) -> dict[str, Tensor]:
        with self.clock(player):
            return self.update(player, loss_fn, batch)

    def together(
        self, losses: Mapping[str, LossFn], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        with self.clock(" and ".join(losses)):
            return self.update.together(losses, batch)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        self.wait()
        start, inside = time.perf_counter(), self.spent["optimiser"]
        yield
        self.wait()
        within = self.spent["optimiser"] - inside
        self.spent[name] += time.perf_counter() - start - within

    def before_optimiser(self, *_: object) -> None:
        self.wait()
        self.started = time.perf_counter()

    def after_optimiser(self, *_: object) -> None:
        self.wait()
        self.spent["optimiser"] += time.perf_counter() - self.started


def time_share(training: Training, wait: Callable[[], None], steps: int) -> dict[str, float]:
    """Shares of a step: loader, forward and backward of each player, optimisers, the rest.

    Args:
        training: ready for its next step; the steps made here are not counted in it.
        wait: returns when the device is done; at every boundary, so no step here is full speed.
        steps: how many to watch.
    """
    watched = _Watched(training.update, wait)

    def batches() -> Iterator[Batch]:
        while True:
            with watched.clock("loader"):
                batch = next(training.loader)
            yield batch

    optimisers = [player.rule.optimiser for player in training.update.players.values()]
    hooks = [o.register_step_pre_hook(watched.before_optimiser) for o in optimisers]
    hooks += [o.register_step_post_hook(watched.after_optimiser) for o in optimisers]
    source, start = batches(), time.perf_counter()
    for i in range(steps):
        training.update.begin_step(training.step + 1 + i, False)
        training.model.training_step(source, watched)
    wait()
    whole = time.perf_counter() - start
    for hook in hooks:
        hook.remove()
    players = watched.spent.keys() - {"loader", "optimiser"}
    names = ("loader", *sorted(players), "optimiser")
    share = {name: watched.spent[name] / whole for name in names}
    return {**share, "rest": max(0.0, 1.0 - sum(share.values()))}
