"""What a decoding process runs: names or bytes come in, rows go into a file, facts go back.

It imports NumPy and Pillow alone, so that it starts in a fifth of a second. See ``decoders``.
"""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from genctl.data.decode import BrokenImageError, Crop, decode
from genctl.data.folder import FolderSource
from genctl.data.rough import RowFacts, hash_of, write_row

LARGE_FILE = 2**18
"""Bytes of a file that is left to the process that asks, whose bounds hold for all of it."""

Item = tuple[int, str | bytes]
"""The place of a row, and the name of its file in the folder, or its bytes."""
Answer = RowFacts | str | None
"""What is known of a row, why there is none, or None: the file is left to who asks."""


@dataclass(frozen=True)
class Job:
    """What all files have in common.

    Attributes:
        root: the folder, where names are sent.
        edge: of the rows; None keeps pictures as they are.
        crop: how pictures become square.
        row_shape: channels, height and width of a row; of another size only that is told.
        rows: descriptor of the file of rows.
    """

    root: str
    edge: int | None
    crop: Crop
    row_shape: tuple[int, int, int]
    rows: int


class LargeImageError(Exception):
    """This image is to be decoded by the process that asks."""


@contextlib.contextmanager
def _left_to_others() -> Iterator[None]:
    raise LargeImageError
    yield


def main(descriptor: int) -> None:
    """Answer until nobody asks any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # who asks decides what these mean
    warnings.simplefilter("ignore")
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        job: Job = connection.recv()
        source = FolderSource(Path(job.root))
        while True:
            items: list[Item] = connection.recv()
            try:
                connection.send([_answer(job, source, *item) for item in items])
            except OSError as error:  # of the file of rows
                if isinstance(error, ConnectionError):
                    raise
                connection.send(error)


def _answer(job: Job, source: FolderSource, place: int, item: str | bytes) -> Answer:
    try:
        if isinstance(item, str):
            if source.size(item) > LARGE_FILE:
                return None
            item = source.read(item)
        found = decode(item, job.edge, job.crop, large=_left_to_others())
    except BrokenImageError as error:
        return str(error)
    except LargeImageError:
        return None
    write_row(job.rows, place, found, job.row_shape)
    return RowFacts.of(found, hash_of(item))
