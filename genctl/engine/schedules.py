"""Learning-rate schedules: a factor as a function of a player's own update count."""

from __future__ import annotations

import math
from typing import Annotated, Protocol

from pydantic import Field

from genctl.registry import register


class Schedule(Protocol):
    """The factor by which the learning rate is multiplied."""

    def factor(self, count: int) -> float:
        """Factor for the update after ``count`` updates."""


@register("schedule", "constant")
class Constant:
    """Always 1."""

    def factor(self, count: int) -> float:
        """1."""
        return 1.0


@register("schedule", "linear")
class Linear:
    """1 until ``start``, then a straight line to ``final`` at ``end``, then ``final``."""

    def __init__(
        self,
        *,
        end: Annotated[int, Field(ge=1)],
        start: Annotated[int, Field(ge=0)] = 0,
        final: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.start, self.end, self.final = start, end, final

    def factor(self, count: int) -> float:
        """Linear in the count between ``start`` and ``end``."""
        share = (count - self.start) / max(1, self.end - self.start)
        return 1.0 + (self.final - 1.0) * min(1.0, max(0.0, share))


@register("schedule", "cosine")
class Cosine:
    """Linear warm-up, then half a cosine from 1 to ``final`` at ``end`` (arXiv:1608.03983)."""

    def __init__(
        self,
        *,
        end: Annotated[int, Field(ge=1)],
        warmup: Annotated[int, Field(ge=0)] = 0,
        final: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.end, self.warmup, self.final = end, warmup, final

    def factor(self, count: int) -> float:
        """Warm-up, then cosine."""
        if count < self.warmup:
            return (count + 1) / self.warmup
        share = min(1.0, (count - self.warmup) / max(1, self.end - self.warmup))
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * share))


@register("schedule", "exponential")
class Exponential:
    """Multiplies by ``decay`` each update."""

    def __init__(self, *, decay: Annotated[float, Field(gt=0, le=1)]) -> None:
        self.decay = decay

    def factor(self, count: int) -> float:
        """decay^count."""
        return self.decay**count


@register("schedule", "plateau")
class Plateau:
    """Multiplies by ``factor`` when a logged metric has not fallen for ``patience`` log rows.

    BEGAN halves its learning rate when M_global stalls (arXiv:1703.10717, section 4.1).

    Args:
        metric: a key of ``metrics.jsonl``; smaller is better.
        factor: what the rate is multiplied by.
        patience: log rows without improvement that are tolerated.
        threshold: relative improvement that counts.
        minimum: the smallest factor.
    """

    def __init__(
        self,
        *,
        metric: str,
        factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        patience: Annotated[int, Field(ge=1)] = 10,
        threshold: Annotated[float, Field(ge=0)] = 0.0,
        minimum: Annotated[float, Field(ge=0)] = 0.01,
    ) -> None:
        self.metric, self.step_factor, self.patience = metric, factor, patience
        self.threshold, self.minimum = threshold, minimum
        self.state: dict[str, float | None] = {"factor": 1.0, "best": None, "waited": 0.0}

    def factor(self, count: int) -> float:
        """The present factor; it changes at log rows only."""
        return self.state["factor"] or 0.0

    def observe(self, row: dict[str, object]) -> None:
        """Read one log row."""
        value = row.get(self.metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return
        best, waited = self.state["best"], self.state["waited"] or 0.0
        if best is None or value < best * (1.0 - self.threshold):
            self.state |= {"best": float(value), "waited": 0.0}
        elif waited + 1 < self.patience:
            self.state["waited"] = waited + 1
        else:
            lowered = max(self.minimum, (self.state["factor"] or 0.0) * self.step_factor)
            # Judge the lower rate from here on, not against a record the old rate set.
            self.state |= {"factor": lowered, "best": float(value), "waited": 0.0}
