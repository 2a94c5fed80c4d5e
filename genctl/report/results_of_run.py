"""Results among a run's reports: a file for each protocol, in which its measures come together.

Measures that are taken one after the other by the same protocol join in one file, each with its
newest number. Another protocol (other data, n, seed, features, precision, settings) gets a file of
its own, so that no evaluation erases the numbers of another, least of all those of the training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genctl.engine.run import Run
from genctl.engine.run_directory import RunDirectory
from genctl.errors import GenctlError
from genctl.reading import read_limited
from genctl.report import asked_of_model, gates

LARGEST = 2**22
"""Bytes of a result that is read again; an ordinary one has a few thousand."""
DIGITS = 8
"""Of the protocol's hash, in the names of all files but the first."""

Report = Mapping[str, Any]
_REAL = (*gates.COMPARED_REAL, "split", "n", "seed")


def place_of(result: Report, run: Run) -> Path:
    """The file of a result: the one of its protocol, or one that is not there yet."""
    new = _as_read(result)
    reports = RunDirectory(run.path).reports
    stem = _stem(new, run.step)
    first = reports / f"{stem}.json"
    others = sorted(reports.glob(f"{_literally(stem)}-{'[0-9a-f]' * DIGITS}.json"))
    for path in (first, *others):
        old = _read(path, run)
        if old is not None and alike(old, new):
            return path
    if not first.exists():
        return first
    salt = 0
    while (path := reports / f"{stem}-{_hash_of(new, salt)}.json").exists():
        salt += 1
    return path


def alike(old: Report, new: Report) -> bool:
    """Whether two results of a step are of one protocol, as far as it concerned both."""
    one, other = _mapping(old.get("protocol")), _mapping(new.get("protocol"))
    apart = ("real", "split", "settings")
    if {k: v for k, v in one.items() if k not in apart} != {
        k: v for k, v in other.items() if k not in apart
    }:
        return False
    pairs = [(old.get("features"), new.get("features"))]
    pairs += [_known(old.get(key), new.get(key)) for key in ("n_generated", "n_real")]
    pairs.append(_known(one.get("split"), other.get("split")))
    real, others = _mapping(one.get("real")), _mapping(other.get("real"))
    if real and others:
        pairs += [(real.get(key), others.get(key)) for key in _REAL]
    else:
        pairs.append(_known(old.get("real"), new.get("real")))
    settings = gates.shared(_mapping(one.get("settings")), _mapping(other.get("settings")))
    pairs += [(left, right) for _, left, right in settings]
    return all(left == right for left, right in pairs)


def joined(old: Report, new: Report) -> dict[str, Any]:
    """Both results of one protocol: every measure with its newest number, gates likewise."""
    entries = dict(old["metrics"])
    for key, entry in new["metrics"].items():
        if "reason" not in entry or "reason" in entries.get(key, {"reason": ""}):
            entries[key] = entry  # nothing takes the place of a number but a number
    one, other = old["protocol"], new["protocol"]
    found = {**old, **new}
    found.pop("error", None)
    for key in ("real", "n_generated", "n_real"):
        found[key] = old.get(key) if new.get(key) is None else new[key]
    found["protocol"] = {
        **other,
        "split": one.get("split") if other.get("split") is None else other["split"],
        "real": other.get("real") or one.get("real"),
        "settings": {**_mapping(one.get("settings")), **_mapping(other.get("settings"))},
    }
    found["metrics"] = entries
    found["warnings"] = list(dict.fromkeys([*old["warnings"], *new["warnings"]]))
    earlier = [gate for gate in old["gates"] if _metric_of(gate) not in new["metrics"]]
    found["gates"] = [*earlier, *new["gates"]]
    return found


def with_earlier(result: Report, path: Path, run: Run) -> dict[str, Any]:
    """A result together with what its file holds already, if that is of its protocol."""
    new = _as_read(result)
    old = _read(path, run)
    return joined(old, new) if old is not None and alike(old, new) else new


def _stem(result: Report, step: int) -> str:
    """What the names of results and of their pictures begin with: step, features, precision."""
    features = result["features"]
    plain = re.sub(r"[^\w.-]+", "-", features or asked_of_model.report_name(result["metrics"]))
    half = features is not None and result["protocol"].get("precision") == "bf16"
    return f"evaluate-{step:08d}-{plain}{'-bf16' if half else ''}"


def _hash_of(result: Report, salt: int) -> str:
    protocol = {key: result[key] for key in ("real", "n_generated", "n_real", "protocol")}
    text = json.dumps([protocol, salt], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=DIGITS // 2).hexdigest()


def _read(path: Path, run: Run) -> dict[str, Any] | None:
    """A result that was written here, or None: nothing there, or something else."""
    try:
        if not path.resolve().is_relative_to(run.path.resolve()):
            return None
        node = json.loads(read_limited(path, LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    shape = {"metrics": dict, "protocol": dict, "warnings": list, "gates": list}
    if not isinstance(node, dict) or any(
        not isinstance(node.get(key), kind) for key, kind in shape.items()
    ):
        return None
    inner = [*node["metrics"].values(), *node["gates"]]
    whole = all(isinstance(item, dict) for item in inner)
    return node if whole and all(isinstance(text, str) for text in node["warnings"]) else None


def _metric_of(gate: Report) -> str:
    try:
        return gates.parse(gate["require"]).metric
    except (GenctlError, KeyError, TypeError):
        return ""


def _as_read(result: Report) -> dict[str, Any]:
    """As it will be read: tuples are lists, keys are texts."""
    found: dict[str, Any] = json.loads(json.dumps(result))
    return found


def _known(left: Any, right: Any) -> tuple[Any, Any]:
    """A pair that is compared only where both sides know it."""
    return (None, None) if left is None or right is None else (left, right)


def _literally(name: str) -> str:
    """A name in which no character is a wildcard."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _mapping(node: Any) -> Mapping[str, Any]:
    return node if isinstance(node, Mapping) else {}
