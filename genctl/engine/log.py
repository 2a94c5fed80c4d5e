"""The log of a run: values averaged over a window on the device, one JSON object per interval."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genctl.engine import distributed
from genctl.errors import DataError
from genctl.reading import read_limited


class Window:
    """Sums of metrics since the last row. Adding never synchronises with the device.

    Args:
        gauges: keys whose last value is logged instead of the mean.
    """

    def __init__(self, gauges: Sequence[str] = ()) -> None:
        self.gauges = frozenset(gauges)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.ordinary: set[str] = set()  # keys that come at every step, not only at log rows

    @torch.no_grad()
    def add(self, metrics: Mapping[str, Tensor], logging: bool = False) -> None:
        """Take scalar tensors into the window; ``logging`` says that this step writes a row."""
        if not logging:
            self.ordinary.update(metrics)
        for key, value in metrics.items():
            value = value.detach().float()
            if key in self.gauges or key not in self.sums:
                self.sums[key], self.counts[key] = value.clone(), 1
            else:
                self.sums[key] += value
                self.counts[key] += 1

    def read(self) -> dict[str, float]:
        """Means over the window and over ranks: one transfer for all of them."""
        if not self.sums:
            return {}
        keys = list(self.sums)
        stacked = torch.stack([self.sums[key].float() / self.counts[key] for key in keys])
        values = distributed.mean(stacked).tolist()
        return dict(zip(keys, values, strict=True))

    def clear(self) -> None:
        """Begin a new window."""
        self.sums, self.counts = {}, {}

    def drop_extras(self) -> None:
        """Forget what was measured only because a row was due, as if none had been."""
        if self.ordinary:
            for key in self.sums.keys() - self.ordinary:
                del self.sums[key], self.counts[key]

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """What a checkpoint must hold, so that a resumed run logs the same means."""
        return dict(self.sums), dict(self.counts)

    def sums_over_ranks(self) -> dict[str, Tensor]:
        """The sums as means over ranks: one of them writes the checkpoint, all go on from it."""
        if not self.sums:
            return {}
        means = distributed.mean(torch.stack([value.float() for value in self.sums.values()]))
        return dict(zip(self.sums, means.unbind(), strict=True))

    def load_state(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Restore what ``state`` returned, in the order the keys were first logged."""
        self.sums = {key: sums[key] for key in counts}
        self.counts = dict(counts)

    def seen(self) -> list[str]:
        """The ordinary keys, for the checkpoint."""
        return sorted(self.ordinary)


LARGEST = 2**30
"""Bytes of a log: it is read whole. A million rows have half of that."""

SCORES = "evaluate/"
"""Keys of a row of scores begin with it. Such a row stands beside the log rows, not among them."""


class MetricsFile:
    """``metrics.jsonl``: append-only, cut back on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; a non-finite number becomes null and its key is listed."""
        bad = [k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)]
        clean = {key: None if key in bad else value for key, value in row.items()}
        if bad:
            clean["nonfinite"] = bad
        with _naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
            file.flush()

    def sync(self) -> None:
        """Bring the rows to the disk: no checkpoint outlives the rows that lead up to it."""
        if self.path.exists():
            with _naming(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())

    def last(self) -> dict[str, Any]:
        """The newest complete log row, empty when there is none."""
        if not self.path.exists():
            return {}
        lines = self._text().splitlines()
        whole = [line for line in lines if _step_of(line) is not None and not _is_scores(line)]
        return dict(json.loads(whole[-1])) if whole else {}

    def scores(self, key: str) -> list[tuple[int, float | None]]:
        """Every score that was taken: its step, and the number under ``key`` or None."""
        if not self.path.exists():
            return []
        lines = self._text().splitlines()
        rows = [json.loads(line) for line in lines if _is_scores(line)]
        return [(row["step"], _number(row.get(key))) for row in rows]

    def cut(self, step: int, drop: int | None = None) -> None:
        """Keep the rows up to ``step``; a torn last line and the log row of step ``drop`` go."""
        if not self.path.exists():
            return
        before = self._text()
        kept = [
            line
            for line in before.splitlines()
            if (found := _step_of(line)) is not None
            and found <= step
            and (found != drop or _is_scores(line))
        ]
        after = "".join(line + "\n" for line in kept)
        if after == before:  # nothing to cut, so going on needs no space for it
            return
        partial = self.path.with_name(f".{self.path.name}.tmp")
        partial.unlink(missing_ok=True)  # were it a link, its target would be written
        with _naming(self.path), partial.open("w", encoding="utf-8") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def _text(self) -> str:
        try:
            return read_limited(self.path, LARGEST).decode("utf-8", errors="replace")
        except OSError as error:
            reason, remedy = f"cannot be read: {error.strerror}", "put a sound one in its place"
            raise DataError(str(self.path), reason, remedy) from None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the block: a failed write tells no name."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _step_of(line: str) -> int | None:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None


def _is_scores(line: str) -> bool:
    """Whether a line is a complete row of scores."""
    return f'"{SCORES}' in line and _step_of(line) is not None


def _number(value: object) -> float | None:
    ordinary = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if ordinary and math.isfinite(value) else None  # type: ignore[arg-type]
