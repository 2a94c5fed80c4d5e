"""From encoded files to one uint8 array: decoded on all cores, checked, ordered, cached.

Rows are ordered by the content hash of their file, the official test part last. The held-out share
is then a slice for every value of ``data.holdout``, stays where it is when files are added, and
never parts two copies of one file.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from genctl.data import cache
from genctl.data.cache import Index
from genctl.data.decode import BrokenImageError, Crop, decode
from genctl.data.folder import Listing
from genctl.data.in_flight import InFlight
from genctl.data.rough import MAX_BROKEN, IsTest, Rough, check_broken, free_scratch
from genctl.errors import DataError, UsageError

CACHE_FROM_FILES = 1000
CACHE_FROM_BYTES = 8 * 2**20
"""Smaller sets are decoded each time: it takes less than a second."""
SMALL_FILE = 2048
"""Bytes of a file below which most of the work is the interpreter's, of which there is one: threads
that wait for each other are slower there than none (two by a third at 1 kB, one by an eighth)."""
IN_FLIGHT_BYTES = 512 * 2**20
"""Bytes of encoded files held at once. A file may have 256 MiB and a machine a hundred cores; what
people train on has less than 4 MiB, so that it keeps them all busy."""
_CHUNK = 32
_UNREAD = {".wav": "sound", ".mp4": "video", ".avi": "video", ".webm": "video"}

Progress = Callable[[int, int], None]
_Task = tuple[str, Callable[[], AbstractContextManager[bytes]]]
"""A name, and its bytes for as long as they are needed."""


class FileSource(Protocol):
    """A folder or an archive of encoded images.

    Attributes:
        key: identifies the place and, for an archive, its state.
        sequential: files can only be read one after the other.
    """

    key: str
    sequential: bool

    def listing(self) -> Listing:
        """The image files."""

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of the files, in an order of the source's own."""


class ReadableSource(FileSource, Protocol):
    """A source that reads any file at any time, from any thread."""

    def size(self, name: str) -> int:
        """Bytes that ``read`` would hold."""

    def read(self, name: str) -> bytes:
        """Bytes of one file."""


@dataclass(frozen=True)
class Transform:
    """How files become rows: edge in pixels or ``native``, and how they become square."""

    size: int | Literal["native"]
    crop: Crop

    @property
    def edge(self) -> int | None:
        """Edge of the stored rows: random crops need a margin of one eighth to move in."""
        if self.size == "native":
            return None
        return self.size + -(-self.size // 8) if self.crop == "random" else self.size


def decoded_files(
    source: FileSource,
    listing: Listing | None,
    transform: Transform,
    thing: str,
    *,
    is_test: IsTest,
    strict: bool = False,
    progress: Progress | None = None,
) -> tuple[np.ndarray, Index, list[str]]:
    """All usable images of a source, from the cache if it has them.

    The key of an entry says whether anything changed: for an archive its own state does, for a
    folder that of every file.

    Args:
        source: where the files are.
        listing: what was found there; None for an archive, which is listed only if needed.
        transform: size and crop.
        thing: the data set, for messages.
        is_test: which of the given names belong to the official test part, or None.
        strict: refuse any broken file.
        progress: told how many files of how many are done.

    Returns:
        ``(N, C, H, W)`` uint8, the index of its rows, and warnings.

    Raises:
        DataError: nothing usable, too much broken, or several sizes where one was expected.
        UsageError: sound or video instead of images.
    """
    key = _key(source, listing, transform)
    notes: list[str] = []
    entry = cache.load(key)
    if entry is None:
        listing = listing if listing is not None else source.listing()
        _refuse_empty(listing, thing)
        small = len(listing.names) < CACHE_FROM_FILES and listing.total_bytes < CACHE_FROM_BYTES
        if small or cache.limit_bytes() == 0:
            rough = _decode_all(source, listing, transform, thing, None, strict, progress)
            entry = rough.in_memory(is_test)
        else:
            entry = _build(source, listing, transform, thing, key, is_test, strict, progress, notes)
    images, index = entry
    if index.broken:
        check_broken(index.broken, len(index.names) + len(index.broken), strict, thing)
    return images, index, notes


def _build(
    source: FileSource,
    listing: Listing,
    transform: Transform,
    thing: str,
    key: str,
    is_test: IsTest,
    strict: bool,
    progress: Progress | None,
    notes: list[str],
) -> tuple[np.ndarray, Index]:
    """Decode under the entry's lock and write it; in memory where the disk does not take it."""
    with cache.building(key) as scratch:
        entry = cache.load(key)  # another process may have built it while this one waited
        if entry is not None:
            return entry
        decoded = partial(_decode_all, source, listing, transform, thing)
        if scratch is None:
            rough = decoded(None, strict, progress, "cannot be written")
            notes.append(f"{cache.cache_folder()} cannot be written: the images stay in memory")
            return rough.in_memory(is_test)
        found: Rough | None = None
        try:
            found = decoded(scratch, strict, progress)
        except OSError as error:  # of the scratch file: one of an image is the image's reason
            full = error.strerror or str(error)
        if found is None:  # memory may have the room that the disk has not
            free_scratch(scratch)
            found = decoded(None, strict, progress, full)
        rough = found
        order = rough.order(is_test)
        index = rough.index(order)
        try:
            cache.store(key, rough.blocks(order), rough.shape, index)
        except OSError as error:
            reason = error.strerror or str(error)
            notes.append(
                f"no cache in {cache.cache_folder()} ({reason}): the images stay in memory"
            )
            rough.disk = reason
            return rough.in_memory(is_test)
        entry = cache.load(key)
        return entry if entry is not None else rough.in_memory(is_test)


def _decode_all(
    source: FileSource,
    listing: Listing,
    transform: Transform,
    thing: str,
    scratch: Path | None,
    strict: bool,
    progress: Progress | None,
    disk: str = "",
) -> Rough:
    """Decode every file; ``disk`` says why there is no scratch folder, where one was wanted.

    Raises:
        OSError: the scratch file has no room.
    """
    edge = transform.edge
    place = {name: i for i, name in enumerate(listing.names)}
    size = (edge, edge) if edge is not None else _first_size(source, listing, thing)
    rough = Rough(listing, size, scratch, disk)

    def one(name: str, opened: Callable[[], AbstractContextManager[bytes]]) -> None:
        try:
            with opened() as data:
                rough.put(place[name], _hash(data), decode(data, edge, transform.crop))
        except BrokenImageError as error:
            rough.refuse(place[name], str(error))

    def several(tasks: list[_Task]) -> int:
        for name, opened in tasks:
            one(name, opened)
        return len(tasks)

    portions = _tasks(source, listing)
    small = listing.total_bytes < SMALL_FILE * len(listing.names)
    done = 0
    with warnings.catch_warnings():
        # Pillow warns of oddities in files; what matters is in the reasons of broken ones.
        warnings.simplefilter("ignore")
        for count in map(several, portions) if small else _on_all_cores(several, portions):
            done += count
            if progress is not None:
                progress(done, len(listing.names))
    rough.check(strict, edge is None, thing)
    return rough


def _on_all_cores(
    work: Callable[[list[_Task]], int], portions: Iterator[list[_Task]]
) -> Iterator[int]:
    """What ``work`` says of each portion, as they are done."""
    workers, pending = _cores(), set[Future[int]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for tasks in portions:
                pending.add(pool.submit(work, tasks))
                del tasks  # the bytes in them go when they are decoded
                if len(pending) >= 4 * workers:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            yield from (future.result() for future in pending)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _tasks(source: FileSource, listing: Listing) -> Iterator[list[_Task]]:
    """Portions of work: names to read, or bytes already read where the source is sequential.

    Only so many bytes are held at once, by those who work and those that wait to be worked on.
    """
    flight = InFlight(IN_FLIGHT_BYTES)

    @contextmanager
    def taken(data: bytes) -> Iterator[bytes]:
        try:
            yield data
        finally:
            flight.give_back(len(data))

    if source.sequential:
        for name, data in source.items(listing.names):
            flight.take(len(data))
            yield [(name, partial(taken, data))]
            del data  # before the next one is read
        return
    size, read = source.size, source.read  # type: ignore[attr-defined]

    @contextmanager
    def opened(name: str) -> Iterator[bytes]:
        count = size(name)
        flight.take(count)
        try:
            yield read(name)
        finally:
            flight.give_back(count)

    for start in range(0, len(listing.names), _CHUNK):
        yield [(name, partial(opened, name)) for name in listing.names[start : start + _CHUNK]]


def _first_size(source: FileSource, listing: Listing, thing: str) -> tuple[int, int]:
    """Width and height of the first usable image, in the source's own order: in one pass."""
    broken: list[tuple[str, str]] = []
    for name, opened in (task for tasks in _tasks(source, listing) for task in tasks):
        try:
            with opened() as data:
                return decode(data).size
        except BrokenImageError as error:
            broken.append((name, str(error)))
            if len(broken) > max(10, MAX_BROKEN * len(listing.names)):
                break
    check_broken(broken, len(listing.names), True, thing)
    raise DataError(thing, "holds no usable image", "")


def _refuse_empty(listing: Listing, thing: str) -> None:
    if listing.names:
        return
    for suffix, kind in _UNREAD.items():
        if listing.ignored[suffix]:
            reason = f"holds {listing.ignored[suffix]:,} {suffix} files, and {kind} is not read yet"
            raise UsageError(thing, reason, "expected images")
    total = sum(listing.ignored.values())
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in listing.ignored.most_common(4))
    found = f"holds no image, only {total:,} other files ({kinds})" if total else "is empty"
    raise DataError(thing, found, "expected image files such as .png or .jpg")


def _key(source: FileSource, listing: Listing | None, transform: Transform) -> str:
    digest = hashlib.blake2b(digest_size=16)
    crop = transform.crop if transform.size != "native" else "none"
    digest.update(
        f"{cache.VERSION}|{source.key}|{transform.size}|{crop}".encode(errors="surrogatepass")
    )
    if listing is not None and listing.stamp:
        for texts in (listing.names, listing.stamp):
            digest.update(f"\0\0{len(texts)}\0".encode())
            digest.update("\0".join(texts).encode(errors="surrogatepass"))
    return digest.hexdigest()


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=cache.HASH_BYTES).digest()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
