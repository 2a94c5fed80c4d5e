"""The recorded scores of a run, each with the protocol it was measured by."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genctl.config.load import flatten
from genctl.engine.run_directory import RunDirectory
from genctl.printable import printable
from genctl.reading import read_limited
from genctl.report.score_pictures import Neighbours, PrdCurve, neighbours, prd_curve

LARGEST = 2**22
"""Bytes of one result; an ordinary one has a few thousand."""
MOST = 24
"""Results shown of one run, the latest steps first."""
MOST_KEYS = 200
"""Of one protocol."""
_NAME = re.compile(r"evaluate-(\d{1,15})-.*\.json")
_LISTED = 8
_DRAWN = ("curve", "nearest", "picture")
"""Fields of a measure that are shown as pictures, not in words."""


@dataclass(frozen=True)
class Score:
    """One measure: its number, or why there is none, and what else was recorded with it."""

    name: str
    value: str
    rest: str


@dataclass(frozen=True)
class Result:
    """One ``evaluate-*.json``.

    Attributes:
        step: of the run.
        title: of what against what, in which features.
        scores: the measures.
        protocol: every key of the protocol with its value.
        notes: warnings that were recorded, and gates.
        curve: of PRD, where it was taken.
        neighbours: of generated pictures, where they were drawn.
    """

    step: int
    title: str
    scores: list[Score]
    protocol: list[tuple[str, str]]
    notes: list[str]
    curve: PrdCurve | None = None
    neighbours: Neighbours | None = None


def read_results(run: RunDirectory, until: int | None = None) -> tuple[list[Result], list[str]]:
    """The results of a run, by step and name, and what was odd about its files."""
    found, notes = [], []
    try:
        paths = sorted(run.reports.iterdir(), key=lambda path: path.stem)  # suffixes come after
    except OSError:
        return [], []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None or (until is not None and int(match[1]) > until):
            continue
        try:
            if not path.resolve().is_relative_to(run.path.resolve()):
                raise ValueError("leads out of the run")
            node = json.loads(read_limited(path, LARGEST).decode("utf-8"))
            found.append(_result(int(match[1]), node, run, path.name))
        except (OSError, ValueError, RecursionError, OverflowError) as error:
            notes.append(f"{path.name} was left out: {printable(error)}")
    if len(found) > MOST:
        notes.append(f"the last {MOST} of {len(found)} results")
    return found[-MOST:], notes


def _result(step: int, node: Any, run: RunDirectory, name: str) -> Result:
    if not isinstance(node, dict) or not isinstance(node.get("metrics"), dict):
        raise ValueError("not a result of evaluate")
    entries = [(name, e) for name, e in node["metrics"].items() if isinstance(e, dict)]
    protocol = {"n_generated": node.get("n_generated"), "n_real": node.get("n_real")}
    recorded = node.get("protocol")
    protocol |= flatten(recorded) if isinstance(recorded, dict) else {}
    against = f" against {node['real']}" if node.get("real") else ""
    features = f", {node['features']} features" if node.get("features") else ""
    sizes = [
        f"{_shown(node[f'n_{side}'])} {side}"
        for side in ("generated", "real")
        if isinstance(node.get(f"n_{side}"), int)
    ]
    counted = f", {' and '.join(sizes)}" if sizes else ""
    warnings = node.get("warnings")
    gates = node.get("gates")
    notes = [printable(text, 500) for text in warnings] if isinstance(warnings, list) else []
    for gate in gates if isinstance(gates, list) else []:
        if isinstance(gate, dict):
            met = "met" if gate.get("met") else "not met"
            notes.append(f"gate {printable(gate.get('require'))}: {met}")
    return Result(
        step,
        printable(f"step {step:,}{against}{features}{counted}", 400),
        [_score(printable(name), entry) for name, entry in entries[:MOST_KEYS]],
        [(printable(key), _shown(value)) for key, value in list(protocol.items())[:MOST_KEYS]],
        notes,
        prd_curve(node["metrics"]),
        neighbours(node["metrics"], run, step, name),
    )


def _score(name: str, entry: Mapping[str, Any]) -> Score:
    """The number a measure is known by first, then the others."""
    rest = {key: value for key, value in entry.items() if key not in _DRAWN}
    if "reason" in entry:
        return Score(name, "none", printable(rest["reason"], 400))
    if not rest:
        return Score(name, "none", "")
    head = next((key for key in ("value", "mean", "nats", "covered") if key in rest), "")
    head = head or next(iter(rest))
    value = _shown(rest.pop(head))
    error = "std" if head == "mean" else "standard_error"
    if isinstance(rest.get(error), int | float):
        value += f" ± {rest.pop(error):.2g}"
    if head == "covered" and "total" in rest:
        value += f" of {_shown(rest.pop('total'))}"
    if head not in ("value", "mean"):
        value += f" {head}"
    return Score(name, value, ", ".join(f"{printable(k)} {_shown(v)}" for k, v in rest.items()))


def _shown(value: Any) -> str:
    """A number, a text or a short list in a cell."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else "not finite"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else printable(f"{value:.5g}")
    if isinstance(value, list):
        more = ", …" if len(value) > _LISTED else ""
        return f"[{', '.join(_shown(item) for item in value[:_LISTED])}{more}]"
    if isinstance(value, dict):
        pairs = list(value.items())[:_LISTED]
        return printable(", ".join(f"{k} {_shown(v)}" for k, v in pairs), 400)
    return printable(value, 400)
