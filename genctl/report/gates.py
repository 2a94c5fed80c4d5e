"""Gates: conditions on the numbers, for scripts (``--require 'fid<40'``, ``'fid<=baseline+2'``)."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genctl.errors import DataError, UsageError
from genctl.metrics.measure import table
from genctl.reading import read_limited

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_GATE = re.compile(
    r"^\s*(?P<metric>[A-Za-z][\w-]*)(?:\.(?P<field>\w+))?\s*(?P<op><=|>=|==|<|>)\s*(?P<bound>.+?)\s*$"
)
_BASELINE = re.compile(r"^baseline\s*(?:(?P<sign>[+-])\s*(?P<change>\S+))?$")
_LARGEST_BASELINE = 2**22  # bytes; a result has a few thousand
EXAMPLE = "e.g. --require 'fid<40', 'is.mean>=2', 'fid<=baseline+2'"


@dataclass(frozen=True)
class Gate:
    """One condition: ``metric[.field] op bound``, the bound absolute or relative to a baseline."""

    text: str
    metric: str
    field: str | None
    op: str
    bound: float
    relative: bool

    def read(self, metrics: Mapping[str, Any]) -> Any:
        """The number the gate speaks of: the field, or ``value``, ``mean``, or the first field."""
        entry = metrics[self.metric]
        name = self.field or first_field(entry)
        return entry.get(name)


def first_field(entry: Mapping[str, Any]) -> str:
    """The field that stands for a measure: ``value``, ``mean``, or the first."""
    return next((name for name in ("value", "mean") if name in entry), next(iter(entry), ""))


def parse(text: str) -> Gate:
    """Read a gate.

    Raises:
        UsageError: not of the form ``metric op number``.
    """
    match = _GATE.match(text)
    if match is None:
        raise UsageError(f"--require {text!r}", "expected metric, < <= > >= or ==, number", EXAMPLE)
    bound, relative = match["bound"], False
    change = _BASELINE.match(bound)
    if change is not None:
        relative = True
        bound = f"{change['sign']}{change['change']}" if change["sign"] else "0"
    try:
        number = float(bound)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"--require {text!r}", f"{match['bound']!r} is not a number", EXAMPLE)
    return Gate(text, match["metric"], match["field"], match["op"], number, relative)


def check_names(
    gates: Sequence[Gate],
    fields: Mapping[str, Sequence[str]],
    words: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Insist that every gate names a measure that will be taken, before anything is computed.

    Args:
        gates: the gates.
        fields: keys of the measures to be taken, each with its fields that are numbers.
        words: likewise, their fields that are none.

    Raises:
        UsageError: the measure is not taken, or has no such field, or that is no number.
    """
    for gate in gates:
        thing = f"--require {gate.text!r}"
        if gate.metric not in fields:
            taken = ", ".join(sorted(fields)) or "nothing"
            raise UsageError(thing, f"{gate.metric} is not taken here", f"taken: {taken}")
        if gate.field is not None and gate.field not in fields[gate.metric]:
            known = gate.field in (words or {}).get(gate.metric, ())
            raise UsageError(
                thing,
                f"{gate.metric}.{gate.field} is no number"
                if known
                else f"{gate.metric} has no field {gate.field!r}",
                f"its fields: {', '.join(fields[gate.metric])}",
            )


def check_baseline(gates: Sequence[Gate], baseline: Mapping[str, Any] | None) -> None:
    """Insist that the baseline has what relative gates compare with, before anything is computed.

    Raises:
        UsageError: there is no baseline, or not that number in it.
    """
    for gate in gates:
        if gate.relative:
            _baseline_value(gate, baseline)


def judge(
    gates: Sequence[Gate],
    metrics: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    pointless: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """What each gate found: ``require``, ``value``, ``met``. A null value does not meet a gate.

    Args:
        gates: the gates.
        metrics: of the result.
        baseline: an earlier result.
        pointless: gates that mean nothing, by their text, and why: they are not met.

    Raises:
        UsageError: a relative gate without a baseline, or a baseline without that number; or a gate
            on something that is not a number.
    """
    found = []
    for gate in gates:
        value = gate.read(metrics)
        if value is not None and not _is_number(value):
            said = repr(value)[:60]
            raise UsageError(f"--require {gate.text!r}", f"{said} is not a number", EXAMPLE)
        bound = gate.bound + (_baseline_value(gate, baseline) if gate.relative else 0.0)
        met = value is not None and OPERATORS[gate.op](value, bound)
        entry = {"require": gate.text, "value": value, "bound": bound, "met": met}
        if gate.text in (pointless or {}):
            entry |= {"met": False, "reason": (pointless or {})[gate.text]}
        found.append(entry)
    return found


def read_baseline(path: Path, option: str = "--baseline") -> dict[str, Any]:
    """An earlier ``evaluate --json``, which the command line names after ``option``.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        text = read_limited(path, _LARGEST_BASELINE)
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{option} {path}", f"cannot be read: {error}", _MAKE_ONE) from None
    metrics = found.get("metrics") if isinstance(found, dict) else None
    if not isinstance(metrics, dict):
        raise DataError(f"{option} {path}", "has no metrics", _MAKE_ONE)
    strange = [key for key, entry in metrics.items() if not isinstance(entry, dict)]
    if strange:
        reason = f"{strange[0]} is no measure with named numbers"
        raise DataError(f"{option} {path}", reason, _MAKE_ONE)
    return dict(found)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _baseline_value(gate: Gate, baseline: Mapping[str, Any] | None) -> float:
    if baseline is None:
        raise UsageError(f"--require {gate.text!r}", "needs --baseline FILE", _MAKE_ONE)
    value = gate.read(baseline["metrics"]) if gate.metric in baseline["metrics"] else None
    if value is None or not _is_number(value):
        raise UsageError(
            f"--require {gate.text!r}", f"the baseline has no {gate.metric}", _MAKE_ONE
        )
    return float(value)


_MAKE_ONE = "`genctl evaluate … --out FILE` writes one"
MEASURE_ALIKE = "measure both alike, or give --unlike-protocols"

COMPARED = (
    "extractor",
    "extractor_hash",
    "range",
    "resize",
    "channels",
    "precision",
    "size",
    "split",
    "shown_seconds",
)
"""What two protocols must share, besides the numbers of examples, to be comparable."""

OF_FEATURES = COMPARED[:6]
"""Those of them that say whose features were compared, for measures of features."""

COMPARED_REAL = ("fingerprint", "shape", "crop", "binarise")
"""What their real sides must share: other data, or data that was prepared in another way."""


def protocol_differences(
    first: Mapping[str, Any], second: Mapping[str, Any], measure: str | None = None
) -> list[str]:
    """How two reports differ in what their numbers mean; empty: they are comparable.

    Args:
        first: a report.
        second: another.
        measure: only what concerns this one of their measures, by its key.
    """
    features, examples = _concern(measure)
    a, b = _mapping(first.get("protocol")), _mapping(second.get("protocol"))
    pairs = []
    if features:
        pairs += [(key, first.get(key), second.get(key)) for key in ("features", "n_generated")]
    if examples:
        pairs += [("n_real", first.get("n_real"), second.get("n_real"))]
    pairs += [
        (key, a.get(key), b.get(key))
        for key in COMPARED
        if (features or key not in OF_FEATURES) and (examples or key != "split")
    ]
    mine, other = _mapping(a.get("settings")), _mapping(b.get("settings"))
    pairs += shared({k: v for k, v in mine.items() if measure in (None, k)}, other)
    real, others = _mapping(a.get("real")), _mapping(b.get("real"))
    pairs += [
        (f"real {key}", real[key], others[key])
        for key in COMPARED_REAL
        if examples and key in real and key in others
    ]
    return [f"{key}: {left} against {right}" for key, left, right in pairs if left != right]


def _concern(measure: str | None) -> tuple[bool, bool]:
    """Whether features, and whether the real examples among them, decide a measure's numbers."""
    known = next((m for m in table().values() if measure in (m.name, m.other_name)), None)
    if measure is None or known is None:
        return True, True
    needs = set(known.needs)
    return bool(needs & {"generated", "real", "classes", "training"}), "real" in needs


def differences(
    first: Mapping[str, Any], other: Mapping[str, Any], measure: str | None = None
) -> list[str]:
    """Of the protocols, and of what a measure says in words: a bound is no exact likelihood."""
    words = []
    for key, entry in first["metrics"].items():
        there = other["metrics"].get(key)
        if measure not in (None, key) or not isinstance(there, Mapping):
            continue
        for name in entry if isinstance(entry, Mapping) else ():
            pair = entry[name], there.get(name)
            told = all(isinstance(v, str) for v in pair) and name not in ("reason", "picture")
            if told and len(set(pair)) > 1:
                words.append(f"{key}.{name}: {pair[0]} against {pair[1]}")
    return protocol_differences(first, other, measure) + words


def unlike(
    gates: Sequence[Gate], result: Mapping[str, Any], baseline: Mapping[str, Any]
) -> dict[str, str]:
    """Relative gates that mean nothing, as the baseline was measured in another way; and how."""
    found = {}
    for gate in gates:
        differ = differences(result, baseline, gate.metric) if gate.relative else []
        if differ:
            found[gate.text] = f"the baseline has another protocol: {'; '.join(differ)}"
    return found


def refuse_unlike(
    gates: Sequence[Gate], prospect: Mapping[str, Any], baseline: Mapping[str, Any]
) -> None:
    """Refuse gates on the change where what is known already shows that protocols are unlike.

    Raises:
        UsageError: of the first of them.
    """
    for text, reason in unlike(gates, prospect, baseline).items():
        raise UsageError(f"--require {text!r}", reason, MEASURE_ALIKE)


def shared(
    mine: Mapping[str, Any], other: Mapping[str, Any], above: str = ""
) -> list[tuple[str, Any, Any]]:
    """What both say, however deep. ``of`` is only a name: another place may call it otherwise."""
    pairs = []
    for key in mine:
        if key in other and key != "of":
            one, two = mine[key], other[key]
            deep = isinstance(one, Mapping) and isinstance(two, Mapping)
            name = f"{above}{key}"
            pairs += shared(one, two, f"{name}.") if deep else [(name, one, two)]
    return pairs


def _mapping(node: Any) -> Mapping[str, Any]:
    return node if isinstance(node, Mapping) else {}
