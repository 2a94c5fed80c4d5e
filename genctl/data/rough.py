"""Rows while they are decoded: written in any order by several threads, checked, put in order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genctl.data.cache import Index
from genctl.data.folder import Listing
from genctl.errors import DataError

MAX_BROKEN = 0.05
"""Share of broken files beyond which a set is refused."""
ROUGH_IN_MEMORY_BYTES = 2**30
_BLOCK_BYTES = 64 * 2**20

IsTest = Callable[[Sequence[str]], np.ndarray | None]
"""Which of the given file names belong to the official test part; None where there is none."""


@dataclass(frozen=True)
class Row:
    """One file: its content hash, and why it is broken or what it holds."""

    name: str
    hash: str
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    grey: bool = True
    animated: bool = False


class Rough:
    """Decoded rows in the listing's order, three channels each, in memory or in a scratch file."""

    def __init__(self, listing: Listing, size: tuple[int, int], scratch: Path | None) -> None:
        self.listing = listing
        self.rows: list[Row | None] = [None] * len(listing.names)
        self.row_shape = (3, size[1], size[0])
        self.row_bytes = 3 * size[0] * size[1]
        total = self.row_bytes * len(listing.names)
        self.array: np.ndarray | None = None
        self.path = scratch / "rough" if scratch is not None else None
        if self.path is None or total <= ROUGH_IN_MEMORY_BYTES:
            self.path = None
            self.array = np.empty((len(listing.names), *self.row_shape), np.uint8)
        else:
            # Written by position, not through a map: a full disk is then an error, not a crash.
            self.file = open(self.path, "w+b")  # noqa: SIM115 - lives as long as its rows

    def write(self, place: int, pixels: np.ndarray) -> None:
        """Store ``(H, W, 1 or 3)`` pixels; safe from several threads."""
        row = np.broadcast_to(pixels.transpose(2, 0, 1), self.row_shape)
        if self.array is not None:
            self.array[place] = row
        else:
            os.pwrite(self.file.fileno(), np.ascontiguousarray(row).data, place * self.row_bytes)

    @property
    def good(self) -> list[int]:
        """Places of the usable rows."""
        return [place for place, row in enumerate(self.rows) if row is not None and not row.reason]

    @property
    def channels(self) -> int:
        """1 only if every image is grey."""
        return 1 if all(row.grey for row in self.rows if row is not None and not row.reason) else 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the finished array."""
        return (len(self.good), self.channels, *self.row_shape[1:])

    def order(self, is_test: IsTest) -> list[int]:
        """Usable rows: training part first, each part by content hash."""
        good = self.good
        rows = [self._row(place) for place in good]
        test = is_test([row.name for row in rows])
        late = np.zeros(len(rows), bool) if test is None else test
        keys = [(bool(late[i]), row.hash, row.name) for i, row in enumerate(rows)]
        return [good[i] for i in sorted(range(len(good)), key=keys.__getitem__)]

    def blocks(self, order: list[int]) -> Iterator[np.ndarray]:
        """The finished array in blocks of rows."""
        step = max(1, _BLOCK_BYTES // self.row_bytes)
        source = self.array
        if source is None:
            self.file.flush()
            shape = (len(self.rows), *self.row_shape)
            source = np.memmap(self.file, np.uint8, mode="r", shape=shape)
        channels = self.channels
        for start in range(0, len(order), step):
            yield source[order[start : start + step], :channels]

    def index(self, order: list[int]) -> Index:
        """The index that goes with ``order``."""
        rows = [self._row(place) for place in order]
        found = [row for row in self.rows if row is not None]
        return Index(
            names=[row.name for row in rows],
            hashes=[row.hash for row in rows],
            broken=[(row.name, row.reason) for row in found if row.reason],
            animated=[row.name for row in found if row.animated],
            metadata=list(self.listing.metadata),
            notes=list(self.listing.notes),
            ignored=dict(self.listing.ignored),
        )

    def in_memory(self, is_test: IsTest) -> tuple[np.ndarray, Index]:
        """The finished array and its index, without the cache."""
        order = self.order(is_test)
        return np.concatenate(list(self.blocks(order))), self.index(order)

    def _row(self, place: int) -> Row:
        row = self.rows[place]
        assert row is not None
        return row


def check_sizes(rows: list[Row], thing: str) -> None:
    """Refuse a set of several sizes where one was expected."""
    sizes = Counter(row.size for row in rows)
    if len(sizes) < 2:
        return
    common = [f"{w} × {h} ({count:,})" for (w, h), count in sizes.most_common(3)]
    more = f" and {len(sizes) - 3:,} more" if len(sizes) > 3 else ""
    usual = min(sizes.most_common(1)[0][0])
    edge = min((8, 16, 28, 32, 64, 128, 256), key=lambda n: abs(n - usual))
    raise DataError(
        thing,
        f"images of {len(sizes):,} sizes, expected one: {', '.join(common)}{more}",
        f"choose one, e.g. --set data.size={edge}",
    )


def check_broken(broken: list[tuple[str, str]], total: int, strict: bool, thing: str) -> None:
    """Refuse a set with any broken file if strict, otherwise with more than ``MAX_BROKEN``."""
    if not broken or (not strict and len(broken) <= MAX_BROKEN * total):
        return
    some = "; ".join(f"{name}: {reason}" for name, reason in broken[:3])
    more = f"; and {len(broken) - 3:,} more" if len(broken) > 3 else ""
    allowed = "none is accepted with --strict-data" if strict else "5 % are accepted"
    reason = f"{len(broken):,} of {total:,} image files are broken, {allowed} ({some}{more})"
    raise DataError(thing, reason, "repair or remove them")
