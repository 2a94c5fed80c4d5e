"""The rows of a ``metrics.jsonl``, read line by line within bounds, whatever stands in it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genctl.engine.log import SCORED_AS
from genctl.errors import DataError
from genctl.printable import printable
from genctl.reading import open_regular

MAX_LINE = 2**20
"""Bytes of one line; a row of genctl's has a thousand."""
MAX_KEYS = 1000
MAX_NUMBERS = 20_000_000
"""In all: a million rows of twenty keys."""
LARGEST = 3.4028235e38
"""Of a float32, which is what is logged; anything larger is as good as infinite."""
_LARGEST_STEP = 2**53


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        step: its step; None where it has none or one that is none.
        values: every other key; NaN where it has no number.
        nonfinite: keys that were not finite when they were written.
        how: how its scores were taken, where it holds some and says it.
    """

    step: int | None
    values: dict[str, float]
    nonfinite: tuple[str, ...]
    how: str = ""


@dataclass
class Log:
    """What a file holds.

    Attributes:
        rows: in the file's order.
        numbered: whether any row has a step.
        notes: what was odd about the file.
    """

    rows: list[Row] = field(default_factory=list)
    numbered: bool = False
    notes: list[str] = field(default_factory=list)


def read_rows(file: Path) -> Log:
    """Read every row that is one.

    Raises:
        DataError: unreadable, too much, or a file in which no line is a row.
    """
    log, broken, lines, numbers = Log(), list[int](), 0, 0
    keys: set[str] = set()
    try:
        for line in _lines(file):
            node = _object(line)
            if node is None:
                broken.append(lines)
            else:
                log.numbered |= "step" in node
                log.rows.append(_row(node, keys))
                numbers += 1 + len(log.rows[-1].values)
            lines += 1
            if numbers > MAX_NUMBERS or len(log.rows) * len(keys) > 2 * MAX_NUMBERS:
                reason = f"holds more than {MAX_NUMBERS:,} numbers"
                raise DataError(str(file), reason, "thin it out: keep every tenth line")
    except OSError as error:
        raise DataError(
            str(file),
            f"cannot be read: {error.strerror or error}",
            "give a run directory or a metrics.jsonl",
        ) from None
    if lines and not log.rows:
        raise DataError(
            str(file), f"none of its {lines} lines is a JSON object", "give a metrics.jsonl"
        )
    if len(keys) >= MAX_KEYS:
        log.notes.append(f"it has more than {MAX_KEYS} keys: the rest was left out")
    if broken and broken[-1] == lines - 1:
        log.notes.append("the last line is torn and was left out")
        broken.pop()
    if broken:
        first = broken[0] + 1
        log.notes.append(f"{len(broken)} unreadable lines were left out, the first is {first}")
    return log


def _lines(file: Path) -> Iterator[bytes]:
    """Lines that are not blank; of one that is too long only its beginning."""
    with open_regular(file) as stream:
        while line := stream.readline(MAX_LINE + 1):
            rest = line
            while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
                rest = stream.readline(MAX_LINE + 1)
            if line.strip():
                yield line


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > MAX_LINE:
        return None
    try:
        node = json.loads(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return None
    return node if isinstance(node, dict) else None


def _row(node: dict[str, Any], keys: set[str]) -> Row:
    values: dict[str, float] = {}
    infinite, literal = [], []
    for name, value in node.items():
        if name in ("step", "nonfinite", SCORED_AS):
            continue
        key = sys.intern(printable(name, 100))
        if key not in keys:
            if len(keys) >= MAX_KEYS:
                continue
            keys.add(key)
        number = _number(value)
        if math.isinf(number):
            infinite.append(key)
        elif math.isnan(number) and isinstance(value, float):
            literal.append(key)
        values[key] = math.nan if math.isinf(number) else number
    listed = node.get("nonfinite")
    named = listed[:MAX_KEYS] if isinstance(listed, list) else []
    told = [sys.intern(printable(key, 100)) for key in named if isinstance(key, str)]
    step = _number(node.get("step"))
    whole = int(step) if abs(step) <= _LARGEST_STEP else None
    how = node.get(SCORED_AS)
    said = printable(how, 100) if isinstance(how, str) else ""
    return Row(whole, values, tuple(dict.fromkeys([*infinite, *told, *literal])), said)


def _number(value: Any) -> float:
    """A JSON number as a float; anything else, null included, as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return number if not abs(number) > LARGEST else math.copysign(math.inf, number)
