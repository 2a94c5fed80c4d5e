"""What every detector shares: the form of its evidence, and facts that several of them ask for."""

from __future__ import annotations

import re
from typing import NamedTuple

from genctl.report.curves import Curves
from genctl.report.signals import smooth, still

HELD_OUT = re.compile(r"held[-_]?out|validation|valid|val|test")
"""A part of a key that marks a measurement on examples not trained on: ``loss/model/held_out``."""

YOUNG = 500
"""Steps before which a generator may still make what its first weights make, and a critic rise."""


class Symptom(NamedTuple):
    """Evidence for one kind of trouble: between which rows, how sure, and what was seen."""

    kind: str
    confidence: float
    first: int
    last: int
    evidence: str


def is_young(curves: Curves) -> bool:
    """Whether a run has had so few steps that what has not come yet may still come."""
    return len(curves) == 0 or int(curves.step[-1]) < YOUNG


def generator_is_still(curves: Curves) -> bool:
    """Whether a run's samples are spread at its end just as they were at its first step."""
    diversity = curves.get("diversity")
    from_start = len(curves) > 0 and curves.step[0] <= 0.02 * curves.step[-1]
    return diversity is not None and from_start and still(smooth(diversity))


def is_held_out(key: str) -> bool:
    """Whether a key tells of examples not trained on."""
    return without_held_out(key) != key


def without_held_out(key: str) -> str:
    """The key with what marks it as held out left away."""
    return "/".join(part for part in key.split("/") if not HELD_OUT.fullmatch(part))
