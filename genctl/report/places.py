"""Where results go: whether a file can be written there, asked before hours of work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from genctl.errors import GenctlError, UsageError


def require_writable(path: Path, option: str) -> None:
    """Insist that a file can be written, without writing it.

    Args:
        path: the file; folders on the way to it may be missing.
        option: what named it, for the error.

    Raises:
        UsageError: it is a folder.
        GenctlError: nothing can be written there.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path}", "is a folder", f"name a file: {path / 'NAME'}")
    error = obstacle(path)
    if error is not None:
        reason = f"cannot be written: {error.strerror or error}"
        remedy = f"name a file in a folder that you may write to with {option}"
        raise GenctlError(f"{option} {path}", reason, remedy)


def obstacle(path: Path) -> OSError | None:
    """Why nothing can be written to a file, as far as can be known; None: nothing is known.

    A nameless file is made in the folder, because permissions tell too little: not of a full disk,
    nor of file systems that are read-only.
    """
    folder = path.absolute().parent
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error
