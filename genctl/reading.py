"""Files of foreign origin read within a bound: never a pipe or a device, never without end."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from pathlib import Path

_SLACK = 65_536  # a file may grow while it is read


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises:
        OSError: unreadable, or something else: a pipe would block and a device never ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb")


def read_limited(path: str | Path, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; a link to one will do.
        limit: the most bytes it may have.

    Raises:
        OSError: unreadable, not a regular file, or larger.
    """
    with open_regular(path) as file:
        return content_of(file, limit, path)


def content_of(file: io.BufferedReader, limit: int, path: str | Path) -> bytes:
    """The content of a file that is open already; ``path`` is its name, for the message.

    Raises:
        OSError: unreadable, or larger than ``limit`` bytes.
    """
    size = os.fstat(file.fileno()).st_size
    data = file.read(min(limit, size + _SLACK) + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return data


def finite_number(value: object) -> float | None:
    """A number of JSON, whole or not; None for anything else, and for what no float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if abs(value) <= sys.float_info.max else None
