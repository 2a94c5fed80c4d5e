"""What an objective's numbers mean, measured on the objective itself; and which one a log is of."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from genctl import registry
from genctl.errors import GenctlError
from genctl.report.curves import Curves

NEAR = 0.15
"""How far a log may be from an objective it is of, in units of what there is to gain by it."""


class Facts(NamedTuple):
    """The discriminator's loss under one objective.

    Attributes:
        equilibrium: where it cannot tell.
        floor: where it is always right.
        cross_entropy: whether it is that of a probability.
    """

    equilibrium: float
    floor: float
    cross_entropy: bool

    @property
    def height(self) -> float:
        """From the floor to the equilibrium."""
        return self.equilibrium - self.floor

    def times(self, share: float) -> Facts:
        """The same of a share of the loss."""
        return Facts(share * self.equilibrium, share * self.floor, self.cross_entropy)


class Recognised(NamedTuple):
    """The objective that a log's losses and scores agree with.

    Attributes:
        output: what it calls the discriminator's output.
        facts: None where its loss has no floor.
        certain: whether no other objective comes near.
    """

    output: str
    facts: Facts | None
    certain: bool


def facts_of(node: Any) -> Facts | None:
    """What the loss of the objective of a configuration means.

    None where the loss has no floor, as Wasserstein's and some f-divergences', or the node is none.
    """
    try:
        resolved, problems = registry.resolve("objective", node, "model.objective")
        objective = None if problems else registry.factory("objective", resolved)()
    except GenctlError:
        return None
    return None if objective is None else _measured(objective)


def _measured(objective: Any) -> Facts | None:
    import torch

    score = torch.linspace(-15, 15, 3001)
    with torch.no_grad():
        real, fake = objective.real(score), objective.fake(score)
        slope = torch.nn.functional.softplus(score)
        floor = float(real.min() + fake.min())
        wider = float(objective.real(2 * score).min() + objective.fake(2 * score).min())
    if wider < floor - 1e-3:
        return None
    cross_entropy = bool(torch.allclose(fake, slope, atol=1e-3))
    return Facts(float((real + fake).min()), floor, cross_entropy)


def recognised(curves: Curves) -> Recognised | None:
    """The registered objective whose loss, taken of the mean scores, is the one that was logged.

    For scores that are no probabilities. None without both, or where no objective comes near:
    penalties in the loss hide it, and the scores of a batch may differ so much that the loss of
    their mean says little.
    """
    import torch

    loss = curves.get("loss/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if loss is None or real is None or fake is None:
        return None
    known = np.isfinite(loss) & np.isfinite(real) & np.isfinite(fake)
    if known.sum() < 5:
        return None
    loss, scores = loss[known], (torch.from_numpy(real[known]), torch.from_numpy(fake[known]))
    near: list[tuple[float, str, Facts | None]] = []
    for objective, facts in _all():
        with torch.no_grad():
            whole = (objective.real(scores[0]) + objective.fake(scores[1])).numpy()
        for share in (1.0, 0.5):  # some programs log the mean of both halves
            there = None if facts is None else facts.times(share)
            unit = float(np.median(np.abs(loss))) if there is None else there.height
            error = float(np.median(np.abs(loss - share * whole))) / max(1e-12, unit)
            if np.isfinite(error):
                near.append((error, objective.output, there))
    near.sort(key=lambda candidate: candidate[0])
    error, output, facts = near[0]
    if error > NEAR:
        return None
    # Where the scores say the same under two objectives, it matters little which one it is.
    others = [away for away, *other in near if other != [output, facts]]
    certain = not others or others[0] > 2.0 * max(error, NEAR / 4)
    return Recognised(output, facts, certain)


@functools.cache
def _all() -> tuple[tuple[Any, Facts | None], ...]:
    """Every registered objective of two players, with each of the choices that it offers."""
    return tuple(
        (objective, _measured(objective))
        for name in registry.names("objective")
        for objective in _variants(name)
        if all(hasattr(objective, part) for part in ("real", "fake", "output"))
    )


def _variants(name: str) -> Iterator[Any]:
    build = registry.get("objective", name).build  # one that cannot be built bare is no candidate
    yield build()
    for parameter in registry.get("objective", name).parameters.values():
        if typing.get_origin(parameter.hint) is typing.Literal:
            for value in typing.get_args(parameter.hint):
                yield build(**{parameter.name: value})
