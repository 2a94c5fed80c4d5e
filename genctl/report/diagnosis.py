"""From curves to a verdict: what is wrong, how sure that is, what was seen, and what to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genctl.report import balance, causes, instability, memorising, variety
from genctl.report.curves import Curves, Span, of_training
from genctl.report.game import Game, read_game
from genctl.report.key_names import KEYS, as_logged, named_as_known, says_anything
from genctl.report.remedies import Remedies
from genctl.report.signals import median
from genctl.report.symptoms import Symptom

ENOUGH_ROWS = 8
"""Fewer rows than this say nothing about where a run is going."""

DECISIVE: tuple[Callable[[Curves, Game], Symptom | None], ...] = (
    instability.diverging,
    instability.nothing_moved,
)
"""What blew up or never began: whatever else its curves show, it comes from that."""

CHECKS: tuple[Callable[[Curves, Game], Symptom | None], ...] = (
    variety.collapse,
    balance.too_strong,
    balance.too_weak,
    instability.stalled,
    instability.oscillation,
    variety.wandering,
    memorising.memorising,
)
"""Everything else; ``causes`` says which of them is the verdict."""


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
    not finite; and so is a log of any length in which no signal is known and nothing blows up.
    """
    curves, theirs = named_as_known(of_training(curves))
    game = read_game(curves)
    remedies = Remedies(curves, game)
    certain = [instability.not_finite(curves, game)] if len(curves) else []
    others: list[Symptom | None] = []
    if len(curves) < ENOUGH_ROWS:
        text = f"{len(curves)} rows, and {ENOUGH_ROWS} are needed to say anything"
        certain.append(Symptom("too-short", 1.0, 0, len(curves) - 1, text))
    else:
        certain += [check(curves, game) for check in DECISIVE]
        others = [check(curves, game) for check in CHECKS]
    decisive = [symptom for symptom in certain if symptom is not None]
    ordered = causes.in_order([s for s in others if s is not None], curves, game)
    kinds: dict[str, Symptom] = {}
    for symptom in [*decisive, *ordered]:
        kinds.setdefault(symptom.kind, symptom)
    chosen = list(kinds.values()) or [_nothing_wrong(curves)]
    findings = tuple(_finding(curves, symptom, remedies, theirs) for symptom in chosen)
    return Diagnosis(curves.run, findings)


def _finding(
    curves: Curves, symptom: Symptom, remedies: Remedies, theirs: Mapping[str, str]
) -> Finding:
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
    evidence = f"{as_logged(symptom.evidence, theirs)} (steps {steps[0]} to {steps[1]})"
    text = remedy() if remedy is not None else ""
    return Finding(symptom.kind, symptom.confidence, steps, evidence, text)


def _nothing_wrong(curves: Curves) -> Symptom:
    """Nothing found: say what was looked at, and how much that is worth.

    Of a log without any known signal nothing can be said, which is not to say that it is well.
    """
    if not says_anything(curves):
        keys = list(curves.columns)
        named = ", ".join(keys[:8]) + (", …" if len(keys) > 8 else "")
        text = (
            f"too little is known: none of its signals is one that can be read ({named or 'none'})"
        )
        return Symptom("too-short", 1.0, 0, len(curves) - 1, text)
    late = len(curves) - max(3, len(curves) // 4)
    seen = []
    for key in (*KEYS, "wasserstein", "began/k", "diversity"):
        if curves.has(key):
            seen.append(f"{key} {median(curves.get(key), late):.3g}")
    for key in curves.starting("loss/"):
        values = curves.columns[key]
        start = median(values, 0, 3)
        seen.append(f"{key} {start:.3g} → {median(values, late):.3g}")
    if not seen:
        seen = [f"{k} {median(curves.get(k), late):.3g}" for k in curves.starting("grad_norm/")]
    groups = ("loss/", "grad_norm/", "score/", "diversity", "wasserstein", "began/")
    looked = sum(bool(curves.starting(prefix)) for prefix in groups)
    enough = min(1.0, len(curves) / 20)
    confidence = float(np.clip(0.3 + 0.15 * looked, 0.3, 0.9) * (0.7 + 0.3 * enough))
    evidence = "nothing lasting was seen; at the end " + ", ".join(seen)
    return Symptom("healthy", confidence, 0, len(curves) - 1, evidence)
