"""The log of a run: values averaged over a window on the device, one JSON object per interval."""

from __future__ import annotations

import itertools
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
from genctl.engine.durable import sync_folder
from genctl.errors import DataError
from genctl.reading import finite_number, open_regular

HELD_OUT = "/held_out"
"""How keys end that tell of examples which are not trained on; they come at log rows only."""


class Window:
    """Sums of metrics since the last row. Adding never synchronises with the device.

    Args:
        gauges: keys whose last value is logged instead of the mean.
        rare: keys that come at log rows only.
    """

    def __init__(self, gauges: Sequence[str] = (), rare: Sequence[str] = ()) -> None:
        self.gauges, self.rare = frozenset(gauges), frozenset(rare)
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Take scalar tensors into the window."""
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

    def drop_rare(self) -> None:
        """Forget what was measured only because a row was due, as if none had been."""
        for key in [key for key in self.sums if key in self.rare or key.endswith(HELD_OUT)]:
            del self.sums[key], self.counts[key]

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """What a checkpoint must hold, so that a resumed run logs the same means."""
        return dict(self.sums), dict(self.counts)

    def sums_of_ranks(self) -> dict[str, Tensor]:
        """The sums of every rank, ``(ranks,)`` each: one of them writes the checkpoint for all."""
        if not self.sums or distributed.world_size() == 1:
            return self.sums
        mine = torch.stack([value.float() for value in self.sums.values()])
        return dict(zip(self.sums, distributed.gather(mine[None]).unbind(1), strict=True))

    def load_state(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Restore what ``state`` returned, in the order the keys were first logged.

        From sums of every rank each takes its own, and another number of ranks takes their mean.
        """
        ranks, mine = distributed.world_size(), distributed.rank()
        for key in counts:
            found = sums[key].float().reshape(-1)
            self.sums[key] = found[mine] if len(found) == ranks else found.mean()
        self.counts = dict(counts)


LONGEST = 2**20
"""Bytes of a line; a row has a thousand."""
MOST_BROKEN = 1000
"""Lines that are no rows; a crash leaves one."""

SCORES = "evaluate/"
"""Keys of a row of scores begin with it. Such a row stands beside the log rows, not among them."""

SCORED_AS = "scored_as"
"""Key of a row of scores that says how they were taken, ``64 in pixels``: on how many examples, and
in which features. Others are not to be compared with them."""


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
        with _naming(self.path), self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # torn, by a crash of another process say
                    file.write(b"\n")
            file.write(json.dumps(clean).encode() + b"\n")

    def sync(self) -> None:
        """Bring the rows to the disk: no checkpoint outlives the rows that lead up to it."""
        if self.path.exists():
            with _naming(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())
                sync_folder(self.path.parent)

    def last(self) -> dict[str, Any]:
        """The newest complete log row, empty when there is none."""
        newest: dict[str, Any] = {}
        for _, row in self._rows():
            if not _is_scores(row):
                newest = row
        return newest

    def scores(self, key: str, how: str | None = None) -> list[tuple[int, float | None]]:
        """Every score of a key that was taken: its step, and the number, None if undefined.

        Args:
            key: of the number; the empty one for all rows of scores, without a number.
            how: only those that were taken so, in whatever features where it names none, or do not
                say it; None for all.
        """
        return [
            (row["step"], finite_number(row.get(key)))
            for _, row in self._rows()
            if _is_scores(row)
            and (not key or key in row)
            and (how is None or alike(str(row.get(SCORED_AS, how)), how))
        ]

    def cut(self, step: int, drop: int | None = None) -> None:
        """Keep the rows up to ``step``; a torn last line and the log row of step ``drop`` go."""

        def stays(row: Mapping[str, Any]) -> bool:
            return row["step"] <= step and (row["step"] != drop or _is_scores(row))

        size = self.path.stat().st_size if self.path.exists() else 0
        whole = sum(len(line.rstrip(b"\n")) + 1 for line, row in self._rows() if stays(row))
        if whole == size:
            return  # nothing to cut, so going on needs no space for it
        partial = self.path.with_name(f".{self.path.name}.tmp")
        partial.unlink(missing_ok=True)  # were it a link, its target would be written
        try:
            with _naming(self.path), partial.open("wb") as file:
                for line, row in self._rows():
                    if stays(row):
                        file.write(line.rstrip(b"\n") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def set_aside(self) -> Path | None:
        """Give the log another name, and begin a new one; None where nothing was logged."""
        if not self.path.exists() or not self.path.stat().st_size:
            return None
        names = (self.path.with_name(f"metrics-before-{i}.jsonl") for i in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        self.path.rename(kept)
        sync_folder(self.path.parent)  # else the rows might be cut as those of the new run
        return kept

    def _rows(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Every line that is a row, and the row; nothing where there is no log.

        Raises:
            DataError: the file cannot be read, or is no log.
        """
        if not self.path.exists():
            return
        remedy, broken = "put a sound one in its place", 0
        try:
            with open_regular(self.path) as file:
                while line := file.readline(LONGEST + 1):
                    if (row := _row_of(line)) is not None:
                        yield line, row
                        continue
                    broken += 1
                    if broken > MOST_BROKEN or len(line) > LONGEST:
                        raise DataError(str(self.path), "is not the log of a run", remedy)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise DataError(str(self.path), reason, remedy) from None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the block: a failed write tells no name."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _row_of(line: bytes) -> dict[str, Any] | None:
    """A row of the log, or of scores; None for anything else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _is_scores(row: Mapping[str, Any]) -> bool:
    return any(key.startswith(SCORES) for key in row)


def alike(one: str, other: str) -> bool:
    """Whether scores taken in two ways may be compared; one of them may have had no features."""
    return one == other or one.startswith(f"{other} in ") or other.startswith(f"{one} in ")
