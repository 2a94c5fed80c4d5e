"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def refuse_special(path: Path) -> None:
    """Raise OSError where a device or a pipe is in the place of a file."""
    if os.path.exists(path) and not os.path.isfile(path):
        reason = "a folder" if os.path.isdir(path) else "neither a file nor a folder"
        raise OSError(errno.EINVAL, f"is {reason}", str(path))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed to ``path`` when the block succeeds.

    When it fails, what was there before stays, nothing else does, and an error of the system names
    ``path``. What is no regular file, such as ``/dev/stdout``, is refused: it would be replaced.
    """
    refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes private files; a picture is as readable as any file of the user's.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except OSError as error:
        if error.errno is not None:  # one with words alone would lose them
            error.filename, error.filename2 = str(path), None  # a failed write tells no name
        raise
    finally:
        partial.unlink(missing_ok=True)
