"""Rows while they are decoded: written in any order by threads and processes, checked, ordered.

What is known of a row is a few bytes in arrays. Its pixels lie in a file: beyond a bound in one on
the disk, so that a set larger than memory can be built.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import mmap
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from genctl.data.cache import HASH_BYTES, Index, cache_folder
from genctl.data.decode import Decoded
from genctl.data.folder import Listing
from genctl.data.limits import physical_memory
from genctl.errors import DataError
from genctl.printable import printable, size_in_words

MAX_BROKEN = 0.05
"""Share of broken files beyond which a set is refused."""
ROUGH_IN_MEMORY_BYTES = 256 * 2**20
_BLOCK_BYTES = 64 * 2**20
_NAME = "rough"
_EDGES = (8, 16, 28, 32, 64, 128, 256)
"""What people choose."""

IsTest = Callable[[Sequence[str]], np.ndarray | None]
"""Which of the given file names belong to the official test part; None where there is none."""


class RowFacts(NamedTuple):
    """What is known of a row beside its pixels.

    Attributes:
        digest: content hash of its file.
        size: width and height before resizing.
        grey: every pixel is.
        animated: the file has more frames.
    """

    digest: bytes
    size: tuple[int, int]
    grey: bool
    animated: bool

    @classmethod
    def of(cls, found: Decoded, digest: bytes) -> Self:
        """The facts of a decoded file."""
        return cls(digest, found.size, found.pixels.shape[2] == 1, found.animated)


def hash_of(data: bytes) -> bytes:
    """The content hash of a file."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def write_row(file: int, place: int, found: Decoded, shape: tuple[int, int, int]) -> None:
    """Write the pixels of a row to its place; of another size they are left out.

    Args:
        file: descriptor of the file of rows.
        place: number of the row.
        found: the decoded file.
        shape: of every row, ``(3, H, W)``.

    Raises:
        OSError: no room.
    """
    if found.pixels.shape[:2] != shape[1:]:
        return
    row = np.ascontiguousarray(np.broadcast_to(found.pixels.transpose(2, 0, 1), shape))
    # By position, not through a map: a full disk is then an error, not a crash.
    if os.pwrite(file, row.data, place * row.nbytes) < row.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # it takes a part without a word


class Rough:
    """Decoded rows in the listing's order, three channels each, in memory or in a scratch file.

    Args:
        listing: the files.
        size: width and height of every row.
        scratch: a folder for the scratch file; None keeps all in memory.
        disk: why the disk does not take the rows, where it was asked; for messages.

    Attributes:
        broken: why a file could not be used, by its place in the listing.
        row_shape: channels, height and width of every row.
        descriptor: of the file of rows; None where they are in no file.

    Raises:
        DataError: more rows than memory holds.
        OSError: more than the scratch folder has room for.
    """

    def __init__(
        self, listing: Listing, size: tuple[int, int], scratch: Path | None, disk: str = ""
    ) -> None:
        count = len(listing.names)
        self.listing = listing
        self.row_shape = (3, size[1], size[0])
        self.row_bytes = 3 * size[0] * size[1]
        self.broken: dict[int, str] = {}
        self.disk = disk
        self._usable = np.zeros(count, bool)
        self._hashes = np.zeros((count, HASH_BYTES), np.uint8)
        self._sizes = np.zeros((count, 2), np.int64)
        self._grey = np.zeros(count, bool)
        self._animated = np.zeros(count, bool)
        self._array: np.ndarray | None = None
        self.descriptor: int | None = None
        if scratch is None or self.row_bytes * count <= ROUGH_IN_MEMORY_BYTES:
            self._refuse_endless(count, self.row_bytes)
            self.descriptor, self._array = _in_memory((count, *self.row_shape))
        else:
            # These rows, and the finished array beside them.
            if 2 * self.row_bytes * count > shutil.disk_usage(scratch).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))
            self._place = str(scratch / _NAME)
            self.descriptor = os.open(self._place, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.ftruncate(self.descriptor, self.row_bytes * count)  # the last may not be usable
        if self.descriptor is not None:
            weakref.finalize(self, os.close, self.descriptor)

    def put(self, place: int, digest: bytes, found: Decoded) -> None:
        """Take a decoded file; safe from several threads. Of another size, only that is kept."""
        if self._array is None:
            assert self.descriptor is not None
            try:
                write_row(self.descriptor, place, found, self.row_shape)
            except OSError as error:
                error.filename = self._place  # a failed write tells no name
                raise
        elif found.pixels.shape[:2] == self.row_shape[1:]:
            self._array[place] = found.pixels.transpose(2, 0, 1)
        self.note(place, RowFacts.of(found, digest))

    def note(self, place: int, facts: RowFacts) -> None:
        """Take what is known of a row whose pixels another process has written."""
        self._hashes[place] = np.frombuffer(facts.digest, np.uint8)
        self._sizes[place] = facts.size
        self._grey[place] = facts.grey
        self._animated[place] = facts.animated
        self._usable[place] = True

    def refuse(self, place: int, reason: str) -> None:
        """Note that a file cannot be used."""
        self.broken[place] = reason

    def check(self, strict: bool, one_size: bool, thing: str) -> None:
        """Raise DataError where too many files are broken, or sizes differ and must not."""
        check_broken(self._reasons(), len(self.listing.names), strict, thing)
        if one_size:
            check_sizes(self._sizes[self._usable], thing)

    @property
    def channels(self) -> int:
        """1 only if every image is grey."""
        return 1 if self._grey[self._usable].all() else 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the finished array."""
        return (int(self._usable.sum()), self.channels, *self.row_shape[1:])

    def order(self, is_test: IsTest) -> np.ndarray:
        """Places of the usable rows: training part first, each part by content hash."""
        good = np.flatnonzero(self._usable)
        test = is_test([self.listing.names[place] for place in good])
        late = np.zeros(len(good), bool) if test is None else test
        high, low = self._hashes[good].view(">u8").T
        # The sort is stable and the listing sorted, so that copies of a file come by name.
        return good[np.lexsort((low, high, late))]

    def blocks(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """The finished array in blocks of rows."""
        step = max(1, _BLOCK_BYTES // self.row_bytes)
        channels = self.channels
        for start in range(0, len(order), step):
            yield self._rows()[order[start : start + step], :channels]

    def index(self, order: np.ndarray) -> Index:
        """The index that goes with ``order``."""
        names = self.listing.names
        return Index(
            names=[names[place] for place in order],
            hashes=self._hashes[order],
            broken=self._reasons(),
            animated=[names[place] for place in np.flatnonzero(self._animated)],
            metadata=list(self.listing.metadata),
            notes=list(self.listing.notes),
            ignored=dict(self.listing.ignored),
        )

    def in_memory(self, is_test: IsTest) -> tuple[np.ndarray, Index]:
        """The finished array and its index, without the cache.

        Raises:
            DataError: the rows were in the scratch file, and memory does not hold them.
        """
        order = self.order(is_test)
        self._refuse_endless(len(order), math.prod(self.shape[1:]))
        images, done = np.empty(self.shape, np.uint8), 0
        for block in self.blocks(order):
            images[done : done + len(block)] = block
            done += len(block)
        return images, self.index(order)

    def _refuse_endless(self, count: int, row_bytes: int) -> None:
        """A few small files can unpack to more than memory has room for."""
        # These rows, and the finished array beside them.
        room = physical_memory() // 2
        total = count * row_bytes
        if total <= room:
            return
        reason = f"{count:,} images unpack to {size_in_words(total)}, more than the memory holds"
        if self.disk:
            reason += f", and {cache_folder()} does not take them ({self.disk})"
        fits = min(math.isqrt(room // (3 * count)), min(self.row_shape[1:]) - 1)
        # A margin for random crops is stored too.
        edge = max((n for n in _EDGES if n + -(-n // 8) <= fits), default=None)
        smaller = [f"choose a smaller size, e.g. --set data.size={edge}"] if edge else []
        elsewhere = ["free space there, or set GENCTL_CACHE to a folder with more"]
        remedy = ", or ".join(smaller + (elsewhere if self.disk else []))
        raise DataError("the images", reason, remedy or "use fewer images")

    def _rows(self) -> np.ndarray:
        if self._array is not None:
            return self._array
        shape = (len(self.listing.names), *self.row_shape)
        # Mapped afresh for every block, so that what was read does not stay in this process.
        return np.memmap(self._place, np.uint8, mode="r", shape=shape)

    def _reasons(self) -> list[tuple[str, str]]:
        names = self.listing.names
        return [(printable(names[place]), self.broken[place]) for place in sorted(self.broken)]


def _in_memory(shape: tuple[int, ...]) -> tuple[int | None, np.ndarray]:
    """An array, and the descriptor of a file that no disk holds and whose content it is.

    None where a system has no such files, or lets nobody have one so large.
    """
    if not hasattr(os, "memfd_create"):
        return None, np.empty(shape, np.uint8)
    try:
        descriptor = os.memfd_create("rows")
    except OSError:
        return None, np.empty(shape, np.uint8)
    try:
        os.ftruncate(descriptor, math.prod(shape))
        whole = mmap.mmap(descriptor, math.prod(shape))
    except OSError:
        os.close(descriptor)
        return None, np.empty(shape, np.uint8)
    return descriptor, np.frombuffer(whole, np.uint8).reshape(shape)


def free_scratch(scratch: Path) -> None:
    """Give back the room of rows that are of no use any more."""
    with contextlib.suppress(OSError):
        os.truncate(scratch / _NAME, 0)  # not removed: someone may hold it open


def check_sizes(sizes: np.ndarray, thing: str) -> None:
    """Refuse a set of several sizes, ``(N, 2)`` width and height, where one was expected."""
    if not len(sizes) or (sizes == sizes[0]).all():
        return
    counts = Counter(map(tuple, sizes.tolist()))
    common = [f"{w} × {h} ({count:,})" for (w, h), count in counts.most_common(3)]
    more = f" and {len(counts) - 3:,} more" if len(counts) > 3 else ""
    usual = min(counts.most_common(1)[0][0])
    edge = min(_EDGES, key=lambda n: abs(n - usual))
    raise DataError(
        thing,
        f"images of {len(counts):,} sizes, expected one: {', '.join(common)}{more}",
        f"choose one, e.g. --set data.size={edge}, or --size {edge} to evaluate",
    )


def check_broken(broken: list[tuple[str, str]], total: int, strict: bool, thing: str) -> None:
    """Refuse a set with any broken file if strict, otherwise with more than ``MAX_BROKEN``."""
    if not broken or (not strict and len(broken) <= MAX_BROKEN * total):
        return
    some = "; ".join(f"{printable(name)}: {reason}" for name, reason in broken[:3])
    more = f"; and {len(broken) - 3:,} more" if len(broken) > 3 else ""
    allowed = "none is accepted with --strict-data" if strict else "5 % are accepted"
    reason = f"{len(broken):,} of {total:,} image files are broken, {allowed} ({some}{more})"
    raise DataError(thing, reason, "repair or remove them")
