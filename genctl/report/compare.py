"""``evaluate --compare``: results side by side, and whether they may be compared at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genctl.engine.run_directory import write_atomically
from genctl.errors import UsageError
from genctl.metrics.measure import table
from genctl.reading import finite_number
from genctl.report.gates import MEASURE_ALIKE, differences, first_field, read_baseline

Report = Mapping[str, Any]


def compare(
    paths: Sequence[str | Path], *, unlike: bool = False, out: Path | None = None
) -> dict[str, Any]:
    """Put several results of ``evaluate`` side by side.

    Args:
        paths: two or more files that ``evaluate --out`` wrote; the first is what the others are
            compared with.
        unlike: compare numbers of unlike protocols all the same, and say what differs.
        out: also write the result here.

    Returns:
        ``compared``, ``unlike`` (what differs), and for each measure in ``metrics``: ``better``,
        its ``fields``, each with ``values`` (a number or None for each file) and ``differences``
        from the first, and ``best``, the number of the file that its first field is best in (None
        where protocols are unlike).

    Raises:
        UsageError: fewer than two files, or unlike protocols.
        DataError: a file that is none of these.
    """
    names = [str(path) for path in paths]
    if len(names) < 2:
        raise UsageError("--compare", f"{len(names)} file given", "--compare A.json B.json")
    reports = [read_baseline(Path(name), "--compare") for name in names]
    found = [
        difference if len(names) == 2 else f"{name}: {difference}"
        for name, report in zip(names[1:], reports[1:], strict=True)
        for difference in differences(reports[0], report)
    ]
    if found and not unlike:
        raise UsageError(
            "--compare",
            f"unlike protocols, so the numbers mean different things: {'; '.join(found)}",
            MEASURE_ALIKE,
        )
    keys = dict.fromkeys(key for report in reports for key in report["metrics"])
    result = {
        "compared": names,
        "generated": [report.get("generated") for report in reports],
        "unlike": found,
        "metrics": {
            key: _measure(key, [r["metrics"].get(key) for r in reports], bool(found))
            for key in keys
        },
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(out, text + "\n")
    return result


def _measure(key: str, entries: Sequence[Any], unlike: bool) -> dict[str, Any]:
    """One measure: every field that is a number in any of the files."""
    there = [entry if isinstance(entry, Mapping) else {} for entry in entries]
    fields = dict.fromkeys(
        name for entry in there for name, v in entry.items() if finite_number(v) is not None
    )
    columns = {name: [finite_number(entry.get(name)) for entry in there] for name in fields}
    first = next((first_field(entry) for entry in there if entry), "")
    better = next((m.better for m in table().values() if key in (m.name, m.other_name)), None)
    return {
        "better": better,
        "fields": {
            name: {"values": values, "differences": [_less(v, values[0]) for v in values[1:]]}
            for name, values in columns.items()
        },
        "best": None if unlike else _best(columns.get(first, []), better),
    }


def _best(values: Sequence[float | None], better: str | None) -> int | None:
    """Which file is best, or None: the measure has no direction, or they are equal."""
    known = [value for value in values if value is not None]
    if better is None or len(set(known)) < 2:
        return None
    return values.index(max(known) if better == "larger" else min(known))


def _less(value: float | None, first: float | None) -> float | None:
    return None if value is None or first is None else value - first


def as_text(result: Mapping[str, Any]) -> str:
    """A line for each field; the first number of a measure marks the best file with a star."""
    names = result["compared"]
    lines = [f"{letter}: {name}" for letter, name in zip(_letters(names), names, strict=True)]
    lines += [f"unlike: {text}" for text in result["unlike"]]
    head = ["", *_letters(names), *(f"{letter} - A" for letter in _letters(names)[1:])]
    rows = [head]
    for key, entry in result["metrics"].items():
        for i, (name, column) in enumerate(entry["fields"].items()):
            shown = [_shown(value) for value in column["values"]]
            if i == 0 and entry["best"] is not None:
                shown[entry["best"]] += "*"
            changes = [_shown(value, "+") for value in column["differences"]]
            better = f" ({entry['better']} is better)" if i == 0 and entry["better"] else ""
            rows.append([f"{key}{'' if i == 0 else '.' + name}{better}", *shown, *changes])
        if not entry["fields"]:
            rows.append([key, *("none" for _ in head[1:])])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _letters(names: Sequence[str]) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else str(i + 1) for i in range(len(names))]


def _shown(value: float | None, sign: str = "") -> str:
    return "none" if value is None else format(value, f"{sign}.6g")
