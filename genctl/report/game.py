"""What kind of numbers a log holds: probabilities, critic values, energies, or a single loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np

from genctl import registry
from genctl.config import presets
from genctl.errors import GenctlError
from genctl.report.curves import Curves

GameKind = Literal["classifier", "critic", "energy", "single"]


@dataclass(frozen=True)
class Game:
    """How a log is to be read.

    Attributes:
        kind: ``classifier``: the discriminator tells real from fake; ``critic``: scores are
            values, with or without a floor of the loss; ``energy``: low means real; ``single``: no
            adversary.
        equilibrium: the discriminator's loss where it cannot tell; None where that says nothing.
        floor: its loss where it is always right.
        certain: whether these two are known, or supposed to be cross-entropy's; else only likely.
        cross_entropy: whether σ(score) is a probability that the loss is made of.
        config: the run's ``config.yaml`` as it is written, empty when there is none.
    """

    kind: GameKind
    equilibrium: float | None
    floor: float
    certain: bool
    cross_entropy: bool
    config: Mapping[str, Any]


def read_game(curves: Curves) -> Game:
    """Recognise the game from the keys, and from the run's objective where there is one."""
    config = _config(curves)
    model = config.get("model")
    node = model.get("objective") if isinstance(model, Mapping) else None
    output = _output(node)
    if curves.has("wasserstein") or output in ("critic", "value"):
        bounded = _objective_facts(node) if output == "value" else None
        equilibrium, floor, _ = bounded or (None, 0.0, False)
        return Game("critic", equilibrium, floor, bounded is not None, False, config)
    if curves.starting("began/") or output == "energy":
        return Game("energy", None, 0.0, False, False, config)
    adversarial = ("loss/discriminator", "score/real", "score/fake", "accuracy/discriminator")
    if not any(curves.has(key) for key in adversarial):
        return Game("single", None, 0.0, False, False, config)
    if not _are_probabilities(curves):
        kind: GameKind = "classifier" if curves.has("accuracy/discriminator") else "energy"
        return Game(kind, None, 0.0, False, False, config)
    facts = _objective_facts(node) if output == "logit" else None
    equilibrium, floor, cross_entropy = facts or _guess(curves)
    certain = facts is not None or cross_entropy
    return Game("classifier", equilibrium, floor, certain, cross_entropy, config)


def _config(curves: Curves) -> Mapping[str, Any]:
    if curves.folder is None:
        return {}
    try:
        text = presets.read_text(curves.folder / "config.yaml")
        return presets.parse(text, str(curves.folder))
    except (OSError, UnicodeDecodeError, GenctlError):
        return {}  # the log alone must do; train and sample are the ones to complain


def _output(node: Any) -> str | None:
    """What the objective calls the discriminator's output."""
    kind = node.get("kind") if isinstance(node, Mapping) else node
    if not isinstance(kind, str):
        return None
    try:
        return getattr(registry.get("objective", kind).build, "output", None)
    except GenctlError:  # a run of another version of genctl
        return None


def _objective_facts(node: Any) -> tuple[float, float, bool] | None:
    """Equilibrium, floor and kind of the discriminator's loss, measured on the objective itself.

    None where the loss has no floor, as Wasserstein's and some f-divergences'.
    """
    import torch

    try:
        resolved, problems = registry.resolve("objective", node, "model.objective")
        objective = None if problems else registry.factory("objective", resolved)()
    except GenctlError:
        return None
    if objective is None:
        return None
    score = torch.linspace(-15, 15, 3001)
    with torch.no_grad():
        real, fake = objective.real(score), objective.fake(score)
        slope = torch.nn.functional.softplus(score)
        floor = float(real.min() + fake.min())
        wider = float(objective.real(2 * score).min() + objective.fake(2 * score).min())
    if wider < floor - 1e-3:
        return None
    cross_entropy = bool(torch.allclose(fake, slope, atol=1e-3))
    return float((real + fake).min()), floor, cross_entropy


def _are_probabilities(curves: Curves) -> bool:
    scores = [curves.columns[key] for key in ("score/real", "score/fake") if curves.has(key)]
    values = np.concatenate(scores) if scores else np.zeros(0)
    values = values[np.isfinite(values)]
    return bool(((values >= 0) & (values <= 1)).all())


def _guess(curves: Curves) -> tuple[float, float, bool]:
    """Which of the usual losses the logged one looks like, given the mean scores.

    Cross-entropy, unless another one explains the whole log far better.
    """
    default = (2 * log(2), 0.0, True)
    loss = curves.get("loss/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if loss is None or real is None or fake is None:
        return default
    r, f = np.clip(real, 1e-6, 1 - 1e-6), np.clip(fake, 1e-6, 1 - 1e-6)
    a, b = np.log(r / (1 - r)), np.log(f / (1 - f))
    cross_entropy = -np.log(r) - np.log(1 - f)
    least_squares = (real - 1) ** 2 + fake**2  # its scores are values near 1 and 0
    candidates = [
        (cross_entropy, default),
        (cross_entropy / 2, (log(2), 0.0, True)),
        (np.maximum(0, 1 - a) + np.maximum(0, 1 + b), (2.0, 0.0, False)),
        (least_squares, (0.5, 0.0, False)),
        (least_squares / 2, (0.25, 0.0, False)),
    ]
    known = np.isfinite(loss) & np.isfinite(real) & np.isfinite(fake)
    if not known.any():
        return default
    errors = [float(np.median(np.abs(loss - expected)[known])) for expected, _ in candidates]
    best = int(np.argmin(errors))
    clear = errors[best] < min(0.25, 0.5 * errors[0])
    return candidates[best][1] if clear else default
