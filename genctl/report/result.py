"""The object that ``evaluate`` gives back: numbers with their protocol, and where it is kept."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from genctl import __version__
from genctl.engine.run import Run
from genctl.engine.run_directory import RunDirectory, write_atomically
from genctl.errors import DataError, GateError, GenctlError
from genctl.metrics.measure import Evidence
from genctl.report import asked_of_model, pictures
from genctl.report.gather import Gathered, Request
from genctl.report.sides import Stored


def result_of(
    request: Request, found: Gathered, evidence: Evidence, entries: dict[str, Any]
) -> dict[str, Any]:
    """What ``genctl evaluate --json`` prints, without gates."""
    extractor = found.extractor
    used = evidence.generated is not None or evidence.real is not None
    name = None if not used else "stored" if extractor is None else extractor.name
    stored = _stored_protocol(name, found)
    return {
        "generated": request.generated,
        "real": request.real,
        "n_generated": None if evidence.generated is None else len(evidence.generated),
        "n_real": None if evidence.real is None else len(evidence.real),
        "features": name,
        "protocol": {
            **(extractor.protocol if used and extractor is not None else stored),
            "n": request.n,
            "seed": request.seed,
            "size": None if request.size == "native" else request.size,
            "split": _split(found, evidence),
            "statistics": "float64, covariance with N - 1",
            "settings": evidence.facts,
            "generated": _facts(found.generated, found.run),
            "real": None if found.real is None else found.real.facts,
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


def _split(found: Gathered, evidence: Evidence) -> str | None:
    """The part of the real data that was used; the held-out part where only that was."""
    if evidence.real is not None and found.real is not None:
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
    """Exit 4 when nothing could be taken, 3 when a gate is not met."""
    entries = result["metrics"]
    if entries and all("reason" in entry for entry in entries.values()):
        reasons = "; ".join(f"{key}: {entry['reason']}" for key, entry in entries.items())
        return DataError(result["generated"], f"no measure could be taken ({reasons})", "")
    unmet = [gate for gate in result["gates"] if not gate["met"]]
    if unmet:
        found = ", ".join(f"{gate['require']} (found {gate['value']})" for gate in unmet)
        return GateError("--require", f"not met: {found}", "")
    return None


def save(result: dict[str, Any], found: Gathered, out: str | Path | None) -> None:
    """Write it into the run's reports, where there is a run, and to ``out``."""
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if found.run is not None:
        name = result["features"] or asked_of_model.report_name(result["metrics"])
        stem = pictures.report_stem(
            found.run, name, found.extractor if result["features"] else None
        )
        reports = RunDirectory(found.run.path).reports
        reports.mkdir(parents=True, exist_ok=True)
        write_atomically(reports / f"{stem}.json", text)
    if out is not None:
        path = Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
