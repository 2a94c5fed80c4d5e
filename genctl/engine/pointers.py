"""``latest`` and ``best``: names of checkpoints beside them.

A pointer is a relative symbolic link; where a file system has none, a file that holds what the link
would. A copy of a run that followed the links has folders in their place, which point nowhere.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from genctl.engine.durable import discard, sync_folder
from genctl.reading import read_limited

STEP = re.compile(r"^step-([0-9]{8,18})\Z")
"""The name of a checkpoint's folder."""
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)


def point(folder: Path, name: str, target: Path) -> None:
    """Make ``name`` point at a checkpoint of the folder, atomically."""
    link = folder / f".tmp-{name}-{os.getpid()}"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target.name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        link.write_text(target.name, encoding="ascii")
    _discard_copy(folder / name)
    link.replace(folder / name)
    sync_folder(folder)


def unpoint(folder: Path, name: str) -> None:
    """Remove a pointer, if it is there."""
    _discard_copy(folder / name)
    (folder / name).unlink(missing_ok=True)


def pointed(folder: Path, name: str) -> int | None:
    """The step that a pointer names; None where there is no pointer, or one that leads elsewhere.

    The checkpoint may be gone.
    """
    link = folder / name
    try:
        target = os.readlink(link) if link.is_symlink() else read_limited(link, 32).decode()
    except (OSError, ValueError):
        return None
    match = STEP.match(target)
    return int(match[1]) if match else None


def _discard_copy(link: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        discard(link)
