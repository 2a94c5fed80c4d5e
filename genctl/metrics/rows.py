"""Rows that need not fit into memory: collected into a file, read back block by block.

Fifty thousand rows of 2,048 features take 400 MB a side, and every measure reads them more than
once. Beyond ``HELD_BYTES`` they lie in a file without a name, which is gone with the last array
that looks into it, however the process ends; what has been read is let go of again. So the memory
of an evaluation does not depend on how many examples it is of.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from genctl.data.cache import cache_folder, forget
from genctl.errors import GenctlError
from genctl.metrics.measure import Array, as_matrix

HELD_BYTES = 2**24
"""Of collected rows, before they go into a file."""
BLOCK = 1024
"""Rows handled at a time in float64: a fixed size, so results do not depend on the batch size."""

_TOUCHED = 128


class Rows:
    """Collects rows of one width and type, ``(n, …)`` at a time."""

    def __init__(self) -> None:
        self._held: list[Array] = []
        self._file: IO[bytes] | None = None
        self._count = self._bytes = 0

    def append(self, block: Array) -> None:
        """Add rows.

        Raises:
            GenctlError: there is no room for them on the disk.
        """
        self._held.append(block)
        self._count += len(block)
        self._bytes += block.nbytes
        if self._file is not None or self._bytes > HELD_BYTES:
            self._write()

    def __bool__(self) -> bool:
        return self._count > 0

    def extend(self, rows: Array) -> None:
        """Add many rows, which may lie in a file themselves; errors as of ``append``."""
        for start in range(0, len(rows), BLOCK):
            self.append(rows[start : start + BLOCK])
            forget(rows)

    def whole(self) -> Array:
        """All rows, of which there must be some; for reading only where they lie in a file."""
        if self._file is None:
            return np.concatenate(self._held)
        shape = (self._count, *self._row.shape)
        with self._file as file:
            return np.memmap(file, self._row.dtype, "r", shape=shape)

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = _nameless()
                self._row = np.empty_like(self._held[0][0])
            for block in self._held:
                self._file.write(np.ascontiguousarray(block).data)
            self._file.flush()
        except OSError as error:
            raise GenctlError(
                f"{self._bytes / 2**20:.0f} MiB of features",
                f"cannot be written to the disk: {error.strerror or error}",
                "make room, GENCTL_CACHE=FOLDER on another disk, or -n N for fewer examples",
            ) from None
        self._held.clear()


def _nameless() -> IO[bytes]:
    """A file in the data cache: a folder for temporary files may itself be memory."""
    with contextlib.suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_folder())
    return tempfile.TemporaryFile()


def in_blocks(rows: Array, chosen: Array | None = None) -> Iterator[NDArray[np.float64]]:
    """``(N, D)`` rows, or the chosen ones of them, as float64 blocks ``(n, D)``."""
    for start in range(0, len(rows) if chosen is None else len(chosen), BLOCK):
        part = slice(start, start + BLOCK)
        yield as_matrix(rows[part] if chosen is None else _scattered(rows, chosen[part]))
        forget(rows)


def _scattered(rows: Array, chosen: Array) -> Array:
    """The chosen rows; few at a time, as a system brings in the neighbours of what is touched."""
    found = np.empty((len(chosen), *rows.shape[1:]), rows.dtype)
    for start in range(0, len(chosen), _TOUCHED):
        part = slice(start, start + _TOUCHED)
        found[part] = rows[chosen[part]]
        forget(rows)
    return found


def mean_of(rows: Array, chosen: Array | None = None) -> NDArray[np.float64]:
    """``(D,)`` mean of ``(N, D)`` rows, or of the chosen ones."""
    blocks = (block.sum(axis=0) for block in in_blocks(rows, chosen))
    mean: NDArray[np.float64] = sum(blocks, np.zeros(rows.shape[1]))
    return mean / (len(rows) if chosen is None else len(chosen))
