"""What a decoding process runs: names come in, rows go into a file, facts go back.

It imports NumPy and Pillow alone, so that it starts in a fifth of a second. See ``decoders``.
"""

from __future__ import annotations

import signal
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from genctl.data.decode import LARGE_PIXELS, BrokenImageError, Crop, decode
from genctl.data.folder import FolderSource
from genctl.data.rough import RowFacts, hash_of, write_row

LARGE_FILE = 2**18
"""Bytes of a file that is left to who asks: there is a bound on what that holds in all."""
READY = "ready"
"""The first word."""

Item = tuple[int, str]
"""The place of a row, and the name of its file."""
Answer = RowFacts | None
"""What is known of a row; None: the file is large, or no picture, and left to who asks."""


@dataclass(frozen=True)
class Job:
    """What all files have in common.

    Attributes:
        root: their folder.
        edge: of the rows; None keeps pictures as they are.
        crop: how pictures become square.
        row_shape: channels, height and width of a row; of another size only that is told.
    """

    root: Path
    edge: int | None
    crop: Crop
    row_shape: tuple[int, int, int]


def main(connection: Connection, rows: int) -> None:
    """Answer until nobody asks any more.

    Args:
        connection: to who asks.
        rows: descriptor of the file of rows.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # who asks decides what these mean
    warnings.simplefilter("ignore")
    job: Job = connection.recv()
    source = FolderSource(job.root)
    connection.send(READY)
    while True:
        items: list[Item] = connection.recv()
        answers: list[Answer] | OSError
        try:
            answers = [_answer(job, source, rows, place, name) for place, name in items]
        except OSError as error:  # of the file of rows: one of a picture is caught below
            answers = error
        connection.send(answers)


def _answer(job: Job, source: FolderSource, rows: int, place: int, name: str) -> Answer:
    if source.size(name) > LARGE_FILE:
        return None
    try:
        data = source.read(name)
        found = decode(data, job.edge, job.crop, most=LARGE_PIXELS)
    except BrokenImageError:  # to who asks it may be a picture: a script can teach Pillow more
        return None
    write_row(rows, place, found, job.row_shape)
    return RowFacts.of(found, hash_of(data))
