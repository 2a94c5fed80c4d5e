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
from genctl.report.recognition import Facts, facts_of, recognised

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
        return _of_values(facts_of(node) if output == "value" else None, True, config)
    if curves.starting("began/") or output == "energy":
        return Game("energy", None, 0.0, False, False, config)
    adversarial = ("loss/discriminator", "score/real", "score/fake", "accuracy/discriminator")
    if not any(curves.has(key) for key in adversarial):
        # Of a generator alone nothing is known but that its loss may drift as a critic's does.
        kind: GameKind = "critic" if curves.has("loss/generator") else "single"
        return Game(kind, None, 0.0, False, False, config)
    if output is None and _is_below_zero(curves):
        return Game("critic", None, 0.0, False, False, config)
    if output is None and not _are_probabilities(curves):
        return _unnamed(curves, config)
    facts = facts_of(node) if output == "logit" else None
    equilibrium, floor, cross_entropy = facts or _guess(curves)
    certain = facts is not None or cross_entropy
    return Game("classifier", equilibrium, floor, certain, cross_entropy, config)


def _of_values(facts: Facts | None, certain: bool, config: Mapping[str, Any]) -> Game:
    if facts is None:
        return Game("critic", None, 0.0, False, False, config)
    return Game("critic", facts.equilibrium, facts.floor, certain, False, config)


def _unnamed(curves: Curves, config: Mapping[str, Any]) -> Game:
    """The game of scores that are no probabilities, where no configuration names the objective."""
    seen = recognised(curves)
    if seen is not None and seen.output != "energy":
        return _of_values(seen.facts, seen.certain, config)
    if seen is None and _higher_is_real(curves):
        return Game("critic", None, 0.0, False, False, config)
    if not curves.has("accuracy/discriminator"):
        return Game("energy", None, 0.0, False, False, config)
    loss = curves.get("loss/discriminator")
    facts = None if loss is None else _guess_from_losses(loss, curves.get("loss/generator"))
    equilibrium, floor, _ = facts or (None, 0.0, False)
    return Game("classifier", equilibrium, floor, False, False, config)


def _is_below_zero(curves: Curves) -> bool:
    """Whether a loss without scores is none of a probability: those are not negative."""
    loss = curves.get("loss/discriminator")
    scored = curves.has("score/real") and curves.has("score/fake")
    if loss is None or scored or curves.has("accuracy/discriminator"):
        return False
    return float(np.mean(loss[np.isfinite(loss)] < 0)) > 0.1


def _higher_is_real(curves: Curves) -> bool:
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if real is None or fake is None:
        return False
    gap = (real - fake)[np.isfinite(real) & np.isfinite(fake)]
    return len(gap) > 0 and float(np.mean(gap > 0)) > 0.5


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


def _are_probabilities(curves: Curves) -> bool:
    scores = [curves.columns[key] for key in ("score/real", "score/fake") if curves.has(key)]
    values = np.concatenate(scores) if scores else np.zeros(0)
    values = values[np.isfinite(values)]
    return bool(((values >= 0) & (values <= 1)).all())


def _guess(curves: Curves) -> Facts:
    """Which of the usual losses the logged one looks like, given the mean scores.

    Cross-entropy, unless another one explains the whole log far better.
    """
    default = Facts(2 * log(2), 0.0, True)
    loss = curves.get("loss/discriminator")
    real, fake = curves.get("score/real"), curves.get("score/fake")
    if loss is None:
        return default
    if real is None or fake is None:
        known = curves.has("accuracy/discriminator")
        return default if known else _guess_from_losses(loss, curves.get("loss/generator"))
    r, f = np.clip(real, 1e-6, 1 - 1e-6), np.clip(fake, 1e-6, 1 - 1e-6)
    a, b = np.log(r / (1 - r)), np.log(f / (1 - f))
    cross_entropy = -np.log(r) - np.log(1 - f)
    least_squares = (real - 1) ** 2 + fake**2  # its scores are values near 1 and 0
    candidates = [
        (cross_entropy, default),
        (cross_entropy / 2, Facts(log(2), 0.0, True)),
        (np.maximum(0, 1 - a) + np.maximum(0, 1 + b), Facts(2.0, 0.0, False)),
        (least_squares, Facts(0.5, 0.0, False)),
        (least_squares / 2, Facts(0.25, 0.0, False)),
    ]
    known = np.isfinite(loss) & np.isfinite(real) & np.isfinite(fake)
    if not known.any():
        return default
    errors = [float(np.median(np.abs(loss - expected)[known])) for expected, _ in candidates]
    best = int(np.argmin(errors))
    clear = errors[best] < min(0.25, 0.5 * errors[0])
    return candidates[best][1] if clear else default


def _guess_from_losses(loss: np.ndarray, generator: np.ndarray | None) -> Facts:
    """Which of the usual losses it is, where there are no scores: cross-entropy, if it may be.

    A discriminator that is no better than the loss L leaves a non-saturating generator, by Jensen's
    inequality, with at least -log(1 - exp(-L)). One that is better off plays another game, of which
    the halved least-squares one has the smallest numbers. A hinge game begins at 2 and 0.
    """
    cross_entropy, hinge = Facts(2 * log(2), 0.0, True), Facts(2.0, 0.0, False)
    loss = loss if generator is None else np.where(np.isfinite(generator), loss, np.nan)
    known = np.isfinite(loss)
    if not known.any():
        return cross_entropy
    loss = loss[known]
    begins_at_two = abs(np.median(loss[:3]) - 2.0) < 0.2
    if generator is None:
        fell = np.median(loss[-len(loss) // 4 :]) < np.median(loss[:3]) - 0.1
        return hinge if begins_at_two and fell else cross_entropy
    generator = generator[known]
    if begins_at_two and abs(np.median(generator[:3])) < 0.35:
        return hinge
    least = -np.log(-np.expm1(-np.maximum(loss, 1e-6)))
    other = (generator > 0) & (generator < 0.8 * least)
    return Facts(0.25, 0.0, False) if other.mean() > 0.5 else cross_entropy
