"""Every file of a source decoded, on all cores: by threads, a folder's small files by processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from genctl.data.decode import BrokenImageError, Crop, decode
from genctl.data.decoder_program import Answer, Item, Job
from genctl.data.decoders import Decoders
from genctl.data.folder import FolderSource, Listing
from genctl.data.in_flight import InFlight
from genctl.data.rough import MAX_BROKEN, Rough, check_broken, hash_of
from genctl.errors import DataError

SMALL_FILE = 2048
"""Bytes of a file below which most of the work is the interpreter's, of which there is one: threads
that wait for each other are slower there than none (two by a third at 1 kB, one by an eighth)."""
FOR_PROCESSES = 65_536
"""Bytes of a file below which processes are faster than threads."""
WORTH_A_PROCESS = 2000
"""Files that are decoded in a few times what a process takes to start."""
IN_FLIGHT_BYTES = 512 * 2**20
"""Bytes of encoded files held at once. A file may have 256 MiB and a machine a hundred cores; what
people train on has less than 4 MiB, so that it keeps them all busy."""
_CHUNK = 32
"""Files of a portion of work."""

Progress = Callable[[int, int], None]
_Task = tuple[int, Callable[[], AbstractContextManager[bytes]]]
"""A place in the listing, and the bytes of its file for as long as they are needed."""


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


def decode_all(
    source: FileSource,
    listing: Listing,
    transform: Transform,
    thing: str,
    scratch: Path | None,
    strict: bool,
    progress: Progress | None,
    disk: str = "",
) -> Rough:
    """Decode every file.

    Args:
        source: where the files are.
        listing: what was found there.
        transform: size and crop.
        thing: the data set, for messages.
        scratch: a folder for rows that are too many for memory; None keeps them there.
        strict: refuse any broken file.
        progress: told how many files of how many are done.
        disk: why there is no scratch folder, where one was wanted.

    Raises:
        DataError: too much broken, or several sizes where one was expected.
        OSError: the scratch file has no room.
    """
    edge = transform.edge
    size = (edge, edge) if edge is not None else _first_size(source, listing, thing)
    decoding = _Decoding(source, listing, transform, Rough(listing, size, scratch, disk))
    done = 0
    with warnings.catch_warnings():
        # Pillow warns of oddities in files; what matters is in the reasons of broken ones.
        warnings.simplefilter("ignore")
        for count in decoding.work():
            done += count
            if progress is not None:
                progress(done, len(listing.names))
    decoding.rough.check(strict, edge is None, thing)
    return decoding.rough


class _Decoding:
    """The work on one source, in portions; each way of doing it yields the size of what is done."""

    def __init__(
        self, source: FileSource, listing: Listing, transform: Transform, rough: Rough
    ) -> None:
        self.source, self.listing, self.transform, self.rough = source, listing, transform, rough

    def work(self) -> Iterator[int]:
        """By processes, by threads or here, whichever is fastest."""
        count = len(self.listing.names)
        mean = self.listing.total_bytes / max(1, count)
        beside = min(_cores() - 1, count // WORTH_A_PROCESS)
        possible = isinstance(self.source, FolderSource) and self.rough.descriptor is not None
        if possible and beside > 0 and mean < FOR_PROCESSES:
            return self.by_processes(beside)
        portions = self._portions()
        return map(self.here, portions) if mean < SMALL_FILE else self.by_threads(portions)

    def _portions(self, places: Sequence[int] | None = None) -> Iterator[list[_Task]]:
        return _tasks(self.source, self.listing, places)

    def here(self, tasks: list[_Task]) -> int:
        """Decode a portion in this thread."""
        for place, opened in tasks:
            try:
                with opened() as data:
                    self._decode(place, data)
            except BrokenImageError as error:
                self.rough.refuse(place, str(error))
        return len(tasks)

    def by_threads(self, portions: Iterator[list[_Task]]) -> Iterator[int]:
        """On as many threads as there are cores."""
        workers, pending = _cores(), set[Future[int]]()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for tasks in portions:
                    pending.add(pool.submit(self.here, tasks))
                    del tasks  # the bytes in them go when they are decoded
                    if len(pending) >= 4 * workers:
                        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in finished)
                yield from (future.result() for future in pending)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def by_processes(self, count: int) -> Iterator[int]:
        """By other processes, and here while they are all busy; what these leave, by threads."""
        edge, crop, rough = self.transform.edge, self.transform.crop, self.rough
        assert isinstance(self.source, FolderSource)
        assert rough.descriptor is not None
        job = Job(self.source.root, edge, crop, rough.row_shape)
        left: list[int] = []
        with Decoders(count, job, rough.descriptor) as decoders:
            for tasks in self._portions():
                if decoders.busy:
                    yield self.here(tasks)
                else:
                    decoders.take([(place, self.listing.names[place]) for place, _ in tasks])
                for portion in decoders.answered():
                    yield self._settle(*portion, left)
            for portion in decoders.rest():
                yield self._settle(*portion, left)
        yield from self.by_threads(self._portions(left))

    def _settle(self, items: list[Item], answers: Sequence[Answer], left: list[int]) -> int:
        """Take what another process found; the places of what it left go to ``left``."""
        for (place, _), answer in zip(items, answers, strict=True):
            if answer is None:
                left.append(place)
            else:
                self.rough.note(place, answer)
        return len(items) - answers.count(None)

    def _decode(self, place: int, data: bytes) -> None:
        found = decode(data, self.transform.edge, self.transform.crop)
        self.rough.put(place, hash_of(data), found)


def _tasks(
    source: FileSource, listing: Listing, places: Sequence[int] | None = None
) -> Iterator[list[_Task]]:
    """Portions of work: files to read, or bytes already read where the source is sequential.

    Only so many bytes are held at once, by those who work and those that wait to be worked on.
    ``places`` chooses some of the files; a sequential source gives all.
    """
    flight = InFlight(IN_FLIGHT_BYTES)
    names = listing.names

    @contextmanager
    def taken(data: bytes) -> Iterator[bytes]:
        try:
            yield data
        finally:
            flight.give_back(len(data))

    if source.sequential:
        place = {name: i for i, name in enumerate(names)}
        for name, data in source.items(names):
            flight.take(len(data))
            yield [(place[name], partial(taken, data))]
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

    chosen = range(len(names)) if places is None else places
    for start in range(0, len(chosen), _CHUNK):
        portion = chosen[start : start + _CHUNK]
        yield [(place, partial(opened, names[place])) for place in portion]


def _first_size(source: FileSource, listing: Listing, thing: str) -> tuple[int, int]:
    """Width and height of the first usable image, in the source's own order: in one pass."""
    broken: list[tuple[str, str]] = []
    for place, opened in (task for tasks in _tasks(source, listing) for task in tasks):
        try:
            with opened() as data:
                return decode(data).size
        except BrokenImageError as error:
            broken.append((listing.names[place], str(error)))
            if len(broken) > max(10, MAX_BROKEN * len(listing.names)):
                break
    check_broken(broken, len(listing.names), True, thing)
    raise DataError(thing, "holds no usable image", "")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
