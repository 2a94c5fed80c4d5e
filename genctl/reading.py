"""Files of foreign origin read within a bound: never a pipe or a device, never without end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_SLACK = 65_536  # a file may grow while it is read


def read_limited(path: str | Path, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; a link to one will do.
        limit: the most bytes it may have.

    Raises:
        OSError: unreadable, not a regular file, or larger.
    """
    try:
        # Opening a pipe would wait for a writer; a device may never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(min(limit, facts.st_size + _SLACK) + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return data
