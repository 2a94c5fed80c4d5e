"""The object that ``evaluate`` gives back: numbers with their protocol, and where it is kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from genctl import __version__
from genctl.engine.run import Run
from genctl.engine.run_directory import write_atomically
from genctl.errors import DataError, GateError, GenctlError, UsageError
from genctl.metrics.measure import Evidence
from genctl.report import gates, results_of_run
from genctl.report.gather import Gathered, Request
from genctl.report.sides import Stored


def result_of(
    request: Request,
    found: Gathered,
    evidence: Evidence,
    entries: dict[str, Any],
    seen: Collection[str],
) -> dict[str, Any]:
    """What ``genctl evaluate --json`` prints, without gates.

    Args:
        request: what was asked.
        found: the sides.
        evidence: with warnings and settings.
        entries: of the measures, by their keys.
        seen: which of ``generated`` and ``real`` were seen through an extractor.
    """
    extractor = found.extractor
    used = bool(seen)
    name = None if not used else "stored" if extractor is None else extractor.name
    stored = _stored_protocol(name, found)
    return {
        "generated": request.generated,
        "real": request.real,
        "n_generated": _count(found.generated, "generated" in seen),
        "n_real": _count(found.real, "real" in seen),
        "features": name,
        "protocol": {
            **(extractor.protocol if used and extractor is not None else stored),
            "n": request.n,
            "seed": request.seed,
            "size": None if request.size == "native" else request.size,
            "split": _split(found, evidence, "real" in seen),
            "statistics": "float64, covariance with N - 1",
            "settings": evidence.facts,
            "generated": _facts(found.generated, found.run),
            "real": None if found.real is None else found.real.facts,
            **({"same_rows": True} if found.same_rows else {}),
            "versions": _versions(),
        },
        "metrics": entries,
        "warnings": evidence.warnings,
    }


def _stored_protocol(name: str | None, found: Gathered) -> dict[str, Any]:
    """What the files say of their features, which is alike."""
    sides = [side for side in (found.generated, found.real) if isinstance(side, Stored)]
    precision = next((side.facts["precision"] for side in sides if side.facts["precision"]), None)
    told: dict[str, Any] = next((dict(side.told) for side in sides if side.told), {})
    told.pop("data", None)
    return {"extractor": name, **told, "precision": precision}


def prospect_of(
    request: Request, found: Gathered, seen: Collection[str], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a result before anything is computed, to be held against an earlier one."""
    known = result_of(request, found, Evidence(), {}, seen)
    if "real" not in seen:  # the split of held-out data is known when that was opened
        protocol = earlier.get("protocol")
        known["protocol"]["split"] = protocol.get("split") if isinstance(protocol, dict) else None
    return known


def _count(side: Any, seen: bool) -> int | None:
    return len(side) if seen and side is not None else None


def _split(found: Gathered, evidence: Evidence, real: bool) -> str | None:
    """The part of the real data that was used; the held-out part where only that was."""
    if real and found.real is not None:
        return str(found.real.facts.get("split", "stored"))
    held = evidence.likelihood or evidence.predictions or evidence.clusters
    return None if held is None else held.split


def _facts(side: Any, run: Run | None) -> dict[str, Any]:
    if side is not None:
        return dict(side.facts)
    assert run is not None
    return {"kind": "run", "step": run.step, "weights": run.weights, "precision": run.precision}


def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "scipy", "torch-fidelity")
    return {"genctl": __version__, **{name: metadata.version(name) for name in packages}}


def failure_in(result: dict[str, Any]) -> GenctlError | None:
    """Exit 4 when nothing could be taken, 2 or 3 when a gate cannot be judged or is not met."""
    entries = result["metrics"]
    if entries and all("reason" in entry for entry in entries.values()):
        reasons = "; ".join(f"{key}: {entry['reason']}" for key, entry in entries.items())
        return DataError(result["generated"], f"no measure could be taken ({reasons})", "")
    unlike = next((gate for gate in result["gates"] if "reason" in gate), None)
    if unlike is not None:
        return UsageError(f"--require {unlike['require']!r}", unlike["reason"], gates.MEASURE_ALIKE)
    unmet = [gate for gate in result["gates"] if not gate["met"]]
    if unmet:
        found = ", ".join(f"{gate['require']} (found {gate['value']})" for gate in unmet)
        return GateError("--require", f"not met: {found}", "")
    return None


def save(
    result: dict[str, Any], run: Run | None, place: str | None, out: str | Path | None
) -> dict[str, object] | None:
    """Write it to its place among the run's reports, with what that holds already, and to ``out``.

    Returns:
        What went wrong, as ``error`` of a result: the numbers are still to be printed.
    """
    try:
        if run is not None and place is not None:
            whole = results_of_run.with_earlier(result, Path(place), run)
            error = failure_in(whole)
            if error is not None:
                whole["error"] = error.as_dict()
            _write(whole, Path(place))
        if out is not None:
            _write(result, Path(out))
    except OSError as error:
        where = str(error.filename or out or place)
        reason = f"cannot be written: {error.strerror or error}"
        return GenctlError(where, reason, "--out FILE in another place").as_dict()
    return None


def _write(result: dict[str, Any], path: Path) -> None:
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
