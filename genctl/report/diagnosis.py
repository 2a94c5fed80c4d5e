"""From curves to a verdict: what is wrong, how sure that is, what was seen, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genctl.report import instability, symptoms
from genctl.report.curves import Curves, Span, of_training
from genctl.report.game import Game, read_game
from genctl.report.remedies import Remedies
from genctl.report.signals import median
from genctl.report.symptoms import Symptom

ENOUGH_ROWS = 8
"""Fewer rows than this say nothing about where a run is going."""

CHECKS: tuple[Callable[[Curves, Game], Symptom | None], ...] = (
    instability.diverging,
    instability.nothing_moved,
    symptoms.collapse,
    symptoms.too_strong,
    symptoms.too_weak,
    instability.stalled,
    instability.oscillation,
    symptoms.wandering,
    symptoms.memorising,
)
"""In the order of how much they spoil; the first that is found decides the verdict."""


@dataclass(frozen=True)
class Finding:
    """One thing seen in the curves.

    Attributes:
        kind: one of the kinds of the contract.
        confidence: 0 … 1.
        steps: where it begins and ends.
        evidence: the signals and their values.
        remedy: what to try, with the ``--set``; empty for a healthy run.
    """

    kind: str
    confidence: float
    steps: tuple[int, int]
    evidence: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as the ``--json`` contract wants it."""
        return {
            "kind": self.kind,
            "confidence": round(self.confidence, 2),
            "steps": list(self.steps),
            "evidence": self.evidence,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Diagnosis:
    """What the curves of one run say; ``verdict`` is the kind of the first finding."""

    run: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """The kind of the finding that matters most."""
        return self.findings[0].kind

    @property
    def spans(self) -> list[Span]:
        """Where trouble was seen, for the plot."""
        return [Span(f.kind, *f.steps) for f in self.findings if f.remedy and f.kind != "too-short"]

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as the ``--json`` contract wants it."""
        findings = [finding.as_dict() for finding in self.findings]
        return {"run": self.run, "verdict": self.verdict, "findings": findings}


def diagnose(curves: Curves) -> Diagnosis:
    """Name what is seen in a log.

    A log shorter than ``ENOUGH_ROWS`` is ``too-short``, unless it already ends in numbers that are
    not finite.
    """
    curves = of_training(curves)
    game = read_game(curves)
    remedies = Remedies(curves, game)
    found = [instability.not_finite(curves, game)] if len(curves) else []
    if len(curves) < ENOUGH_ROWS:
        text = f"{len(curves)} rows, and {ENOUGH_ROWS} are needed to say anything"
        found.append(Symptom("too-short", 1.0, 0, len(curves) - 1, text))
    else:
        found += [check(curves, game) for check in CHECKS]
    kinds: dict[str, Symptom] = {}
    for symptom in found:
        if symptom is not None:
            kinds.setdefault(symptom.kind, symptom)
    chosen = list(kinds.values()) or [_healthy(curves, game)]
    findings = tuple(_finding(curves, symptom, remedies) for symptom in chosen)
    return Diagnosis(curves.run, findings)


def _finding(curves: Curves, symptom: Symptom, remedies: Remedies) -> Finding:
    remedy = {
        "too-short": remedies.too_short,
        "divergence": remedies.divergence,
        "mode-collapse": remedies.mode_collapse,
        "discriminator-too-strong": remedies.too_strong,
        "discriminator-too-weak": remedies.too_weak,
        "stalled": remedies.stalled,
        "oscillation": remedies.oscillation,
        "memorising": remedies.memorising,
    }.get(symptom.kind)
    steps = (0, 0)
    if len(curves):
        steps = (int(curves.step[symptom.first]), int(curves.step[symptom.last]))
    evidence = f"{symptom.evidence} (steps {steps[0]} to {steps[1]})"
    text = remedy() if remedy is not None else ""
    return Finding(symptom.kind, symptom.confidence, steps, evidence, text)


def _healthy(curves: Curves, game: Game) -> Symptom:
    """Nothing found: say what was looked at, and how much that is worth."""
    late = len(curves) - max(3, len(curves) // 4)
    seen = []
    for key in ("score/real", "score/fake", "wasserstein", "began/k", "diversity"):
        if curves.has(key):
            seen.append(f"{key} {median(curves.get(key), late):.3g}")
    for key in curves.starting("loss/"):
        values = curves.columns[key]
        start = median(values, 0, 3)
        seen.append(f"{key} {start:.3g} → {median(values, late):.3g}")
    groups = ("loss/", "grad_norm/", "score/", "diversity", "wasserstein", "began/")
    looked = sum(bool(curves.starting(prefix)) for prefix in groups)
    enough = min(1.0, len(curves) / 20)
    confidence = float(np.clip(0.3 + 0.15 * looked, 0.3, 0.9) * (0.7 + 0.3 * enough))
    evidence = "nothing lasting was seen; at the end " + ", ".join(seen or ["no known signal"])
    return Symptom("healthy", confidence, 0, len(curves) - 1, evidence)
