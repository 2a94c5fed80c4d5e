"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed to ``path`` when the block succeeds.

    When it fails, what was there before stays, nothing else does, and an error of the system names
    ``path``.
    """
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
        error.filename, error.filename2 = str(path), None  # a failed write tells no name
        raise
    finally:
        partial.unlink(missing_ok=True)
