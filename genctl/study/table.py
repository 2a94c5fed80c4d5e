"""From results to one table: means and standard deviations over seeds, and trends over sweeps."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genctl.engine.run_directory import write_atomically
from genctl.study.directory import DONE, StudyDirectory
from genctl.study.plan import Scalar, Study, Sweep, Trial

TRAIN_KEYS = ("step", "images", "seconds")


@dataclass(frozen=True)
class Group:
    """The trials that differ in nothing but the seed.

    Attributes:
        entry: the name of what is compared.
        settings: the values of the varied keys.
        seeds: of the trials that are done.
        values: each metric's values in the order of ``seeds``; NaN where one has none.
        failed: seed, exit code and reason of the others that ended.
        missing: seeds that are not there yet.
    """

    entry: str
    settings: Mapping[str, Scalar]
    seeds: Sequence[int]
    values: Mapping[str, np.ndarray]
    failed: Sequence[Mapping[str, Any]]
    missing: Sequence[int]

    def get(self, metric: str) -> np.ndarray:
        """``(seeds,)`` values of a metric, or of a ratio of two, written ``a / b``."""
        top, _, bottom = metric.partition(" / ")
        nothing = np.full(len(self.seeds), math.nan)
        found = self.values.get(top, nothing)
        return found / self.values.get(bottom, nothing) if bottom else found

    def summary(self, metric: str) -> dict[str, float | int | None]:
        """Mean, sample standard deviation (n − 1; none for one seed) and n of finite values."""
        found = self.get(metric)
        found = found[np.isfinite(found)]
        return {
            "mean": float(found.mean()) if len(found) else None,
            "std": float(found.std(ddof=1)) if len(found) > 1 else None,
            "n": len(found),
        }


@dataclass(frozen=True)
class Line:
    """One entry along one sweep.

    Attributes:
        label: the entry, and the other varied keys' values where there are several.
        x: where each group stands: numbers, or places 0, 1, … where the values are not numbers.
        groups: in the order of ``x``.
    """

    label: str
    x: Sequence[float]
    groups: Sequence[Group]


def collect(study: Study, directory: StudyDirectory) -> list[Group]:
    """The groups in the order of the trials, from whatever results are there."""
    together: dict[tuple[str, str], list[Trial]] = {}
    for trial in study.trials:
        together.setdefault(trial.group, []).append(trial)
    return [_group(trials, directory) for trials in together.values()]


def _group(trials: Sequence[Trial], directory: StudyDirectory) -> Group:
    results = {trial.seed: directory.read(trial) for trial in trials}
    done = {s: r for s, r in results.items() if r is not None and r.get("state") == DONE}
    rows = [numbers(result) for result in done.values()]
    keys = dict.fromkeys(key for row in rows for key in row)
    failed = [
        {"seed": seed, "code": r["error"]["code"], "reason": r["error"]["reason"]}
        for seed, r in results.items()
        if r is not None and seed not in done
    ]
    return Group(
        trials[0].entry,
        trials[0].settings,
        list(done),
        {key: np.array([row.get(key, math.nan) for row in rows]) for key in keys},
        failed,
        [seed for seed, result in results.items() if result is None],
    )


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a result by name: measures first, as gates name them."""
    found: dict[str, float] = {}
    for key, entry in result.get("metrics", {}).items():
        for name, value in entry.items():
            short = name in ("value", "mean")
            _put(found, key if short else f"{key}.{name}", value)
    trained = result.get("train", {})
    for key in TRAIN_KEYS:
        _put(found, key, trained.get(key))
    for key, value in trained.get("last", {}).items():
        if key not in TRAIN_KEYS:
            _put(found, f"last/{key}", value)
    return found


def _put(found: dict[str, float], key: str, value: Any) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        found[key] = float(value)


def lines(sweep: Sweep, groups: Sequence[Group]) -> list[Line]:
    """The groups of a sweep as lines along its horizontal key, from left to right.

    A group that two sweeps share comes where the first of them has it, so each sorts its own.
    """
    inside = [g for g in groups if _holds(sweep, g)]
    if sweep.x is None:
        return [Line("", [float(i) for i in range(len(inside))], inside)]
    others = [key for key, values in sweep.axes.items() if len(values) > 1 and key != sweep.x]
    found: dict[str, list[Group]] = {}
    for group in inside:
        label = ", ".join([group.entry, *(f"{key} {group.settings[key]}" for key in others)])
        found.setdefault(label, []).append(group)
    values = list(sweep.axes[sweep.x])
    x = sweep.x

    def line(label: str, some: list[Group]) -> Line:
        ordered = sorted(some, key=lambda group: _place(group.settings[x], values))
        return Line(label, [_place(group.settings[x], values) for group in ordered], ordered)

    return [line(label, some) for label, some in found.items()]


def _holds(sweep: Sweep, group: Group) -> bool:
    same = group.settings.keys() == sweep.axes.keys()
    return same and all(group.settings[key] in values for key, values in sweep.axes.items())


def _place(value: Scalar, values: Sequence[Scalar]) -> float:
    return float(value) if numeric(values) else float(values.index(value))  # type: ignore[arg-type]


def numeric(values: Sequence[Scalar]) -> bool:
    """Whether a key's values are numbers, so that they have places on an axis."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def trends(study: Study, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Spearman's rank correlation of each plotted metric with x, over all seeds of a line.

    None where fewer than three values of x have a result, or the metric does not change.
    """
    found = []
    for sweep in study.sweeps:
        if sweep.x is None or not numeric(sweep.axes[sweep.x]) or len(sweep.axes[sweep.x]) < 3:
            continue
        for line in lines(sweep, groups):
            for metric in study.metrics:
                pairs = [
                    (x, y)
                    for x, group in zip(line.x, line.groups, strict=True)
                    for y in group.get(metric)
                    if math.isfinite(y)
                ]
                found.append(
                    {
                        "line": line.label,
                        "x": sweep.x,
                        "y": metric,
                        "spearman": _spearman(pairs),
                        "n": len(pairs),
                    }
                )
    return found


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    x, y = {a for a, _ in pairs}, {b for _, b in pairs}
    if len(x) < 3 or len(y) < 2:
        return None
    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)


def write_table(study: Study, directory: StudyDirectory, groups: Sequence[Group]) -> dict[str, Any]:
    """Write ``table.csv`` and ``table.json``; returns the content of the latter."""
    metrics = _metrics(study, groups)
    whole = {
        "study": study.name,
        "groups": [
            {
                "entry": group.entry,
                "settings": dict(group.settings),
                "seeds": list(group.seeds),
                "missing": list(group.missing),
                "failed": list(group.failed),
                "metrics": {
                    metric: {**group.summary(metric), "values": _plain(group.get(metric))}
                    for metric in metrics
                },
            }
            for group in groups
        ],
        "trends": trends(study, groups),
    }
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(directory.path / "table.json", text)
    write_atomically(directory.path / "table.csv", _csv(groups, metrics))
    return whole


def _metrics(study: Study, groups: Sequence[Group]) -> list[str]:
    """What is plotted first, then everything that any group knows."""
    known = dict.fromkeys(key for group in groups for key in group.values)
    return list(dict.fromkeys([*study.metrics, *known]))


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _csv(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    keys = list(dict.fromkeys(key for group in groups for key in group.settings))
    head = ["entry", *keys, "seeds", "failed", "missing"]
    head += [f"{metric} {what}" for metric in metrics for what in ("mean", "std")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for group in groups:
        row: list[Any] = [group.entry, *(group.settings.get(key, "") for key in keys)]
        row += [len(group.seeds), len(group.failed), len(group.missing)]
        for metric in metrics:
            found = group.summary(metric)
            row += ["" if found[what] is None else found[what] for what in ("mean", "std")]
        writer.writerow(row)
    return buffer.getvalue()
