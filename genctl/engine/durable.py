"""Names that outlive a power loss: a file is on the disk when its folder is, too."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from genctl.writing import refuse_special


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    A file system that cannot sync a directory still renames atomically.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


def make_folders(*folders: Path) -> list[Path]:
    """Make folders with all that lead to them, and their names durable.

    Returns:
        Those that were not there, outermost first.
    """
    made = []
    for folder in folders:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        made += missing[::-1]
    for parent in dict.fromkeys(path.parent for path in made):
        with contextlib.suppress(OSError):  # one may be written to and not read
            sync_folder(parent)
    return made


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that it is either the old one or the new one, and stays.

    What is not UTF-8 in the name of a file is written as escapes.
    """
    refuse_special(path)
    partial = path.with_name(f".{path.name}.tmp")
    try:
        partial.unlink(missing_ok=True)  # were it a link, its target would be written
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        error.filename = str(path)  # a failed write tells no name
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    with contextlib.suppress(OSError):  # it is there; its folder may be one that nobody may read
        sync_folder(path.parent)


def discard(folder: Path) -> None:
    """Remove a folder at one instant: half of it is never seen under its name."""
    gone = folder.with_name(f".tmp-gone-{folder.name}-{os.getpid()}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
