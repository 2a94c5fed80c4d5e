"""Records of runs that were made: one JSON file ``presets/results/<preset>*.json`` each."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genctl.config import presets
from genctl.errors import DataError
from genctl.registry import suggest


@dataclass(frozen=True)
class Result:
    """One measured run of a preset.

    Attributes:
        preset: its name.
        data: the data SPEC, with what it held (``mnist:ROOT, 60,000 images``).
        steps: training steps.
        images: real examples consumed.
        seconds: of training.
        seeds: all that were run; metrics are their means.
        device: what it ran on (``2 cores, AMX``; ``H200``).
        precision: number format.
        metrics: values by name, with the unit in the name (``test nats (IW bound, k = 128)``).
        command: what was typed.
        date: ISO date of the run.
        note: anything a reader must know.
        published: anchors from the literature by name, with the source in the name.
        picture: a file beside the record, shown in the gallery.
        protocol: extractor, n, split and versions behind scores.
        spread: standard deviation over the seeds of those metrics that have one.
        comparison: heading of the table in which this result stands beside others of equal data
            and budget; empty when it stands alone.
        variant: what sets it apart there from the preset's other results.
    """

    preset: str
    data: str
    steps: int
    images: int
    seconds: float
    seeds: tuple[int, ...]
    device: str
    precision: str
    metrics: Mapping[str, float]
    command: str
    date: str
    note: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    picture: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    comparison: str = ""
    variant: str = ""


def read_result(path: Path) -> Result:
    """Read and check one record.

    Raises:
        DataError: not JSON, or keys or values that do not fit; all of them are named.
    """
    try:
        node = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(str(path), f"cannot be read: {error}") from None
    if not isinstance(node, dict):
        raise DataError(str(path), "expected one JSON object")
    fields = {f.name: f for f in dataclasses.fields(Result)}
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    problems = [f"{key}: unknown key{suggest(key, list(fields))}" for key in node.keys() - fields]
    problems += [f"{key}: missing" for key in required if key not in node]
    problems += [text for key in node.keys() & fields.keys() for text in _wrong(key, node[key])]
    if not problems and not path.stem.startswith(node["preset"]):
        problems.append(f"preset: the file of {node['preset']} must begin with its name")
    if not problems:
        strange = node.get("spread", {}).keys() - node["metrics"].keys()
        problems += [f"spread: {key} is no metric" for key in sorted(strange)]
    if not problems and node.get("picture") and not (path.parent / node["picture"]).is_file():
        problems.append(f"picture: no file {node['picture']} beside the record")
    if problems:
        raise DataError(str(path), "; ".join(sorted(problems)), "see genctl/report/recorded.py")
    return Result(**{**node, "seeds": tuple(node["seeds"])})


def read_results(folder: Path) -> dict[str, list[Result]]:
    """All records of a folder by preset, in the order of their file names.

    Raises:
        DataError: a damaged record, or one of a preset that does not exist.
    """
    found: dict[str, list[Result]] = {}
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        if result.preset not in presets.paths():
            near = suggest(result.preset, list(presets.paths()))
            raise DataError(str(path), f"no preset is called {result.preset!r}{near}")
        found.setdefault(result.preset, []).append(result)
    return found


def _wrong(key: str, value: Any) -> list[str]:
    """What is wrong with the value of a known key."""
    texts = ("preset", "data", "device", "precision", "command")
    if key in texts and not (isinstance(value, str) and value.strip()):
        return [f"{key}: expected text, found {value!r}"]
    if key in ("note", "picture", "comparison", "variant") and not isinstance(value, str):
        return [f"{key}: expected text, found {value!r}"]
    if key in ("steps", "images") and not (
        _is_number(value) and value >= 1 and value == int(value)
    ):
        return [f"{key}: expected a whole number, found {value!r}"]
    if key == "seconds" and not (_is_number(value) and value > 0):
        return [f"{key}: expected a time, found {value!r}"]
    if key == "seeds" and not (
        isinstance(value, list) and value and all(isinstance(s, int) for s in value)
    ):
        return [f"{key}: expected a list of seeds, found {value!r}"]
    if key in ("metrics", "published", "spread"):
        good = isinstance(value, dict) and all(_is_number(number) for number in value.values())
        if not good or (key == "metrics" and not value):
            return [f"{key}: expected finite numbers by name, found {value!r}"]
    if key == "protocol" and not isinstance(value, dict):
        return [f"{key}: expected a mapping, found {value!r}"]
    if key == "date":
        try:
            datetime.date.fromisoformat(value)
        except (TypeError, ValueError):
            return [f"{key}: expected a date such as 2025-01-31, found {value!r}"]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
