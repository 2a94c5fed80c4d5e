"""``latest`` and ``best``: names of checkpoints beside them.

A pointer is a relative symbolic link; where a file system has none, a file that holds what the link
would. A copy of a run that followed the links has checkpoints in their place, until it goes on.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

from genctl.engine.durable import discard, sync_folder
from genctl.reading import read_limited

STEP = re.compile(r"^step-([0-9]{8,18})\Z")
"""The name of a checkpoint's folder."""
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
MAX_STATE_BYTES = 64 * 2**20
"""Of a checkpoint's ``state.json``."""


def name_of(step: int) -> str:
    """The name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def point(folder: Path, name: str, target: Path) -> None:
    """Make ``name`` point at a checkpoint of the folder, atomically."""
    link = folder / f".tmp-{name}-{os.getpid()}"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(target.name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with link.open("w", encoding="ascii") as file:
            file.write(target.name)
            file.flush()
            os.fsync(file.fileno())
    link.replace(folder / name)
    sync_folder(folder)


def unpoint(folder: Path, name: str) -> None:
    """Remove a pointer, if it is there."""
    (folder / name).unlink(missing_ok=True)


def pointed(folder: Path, name: str) -> int | None:
    """The step that a pointer names; None where there is no pointer, or one that leads elsewhere.

    The checkpoint may be gone.
    """
    link = folder / name
    if link.is_dir() and not link.is_symlink():
        return _step_of(link)
    try:
        target = os.readlink(link) if link.is_symlink() else read_limited(link, 32).decode()
    except (OSError, ValueError):
        return None
    match = STEP.match(target)
    return int(match[1]) if match else None


def mend(folder: Path) -> None:
    """Make pointers again of the checkpoints that a copy which followed them has in their place.

    What is no checkpoint gets another name.
    """
    for name in ("best", "latest"):
        copy = folder / name
        if copy.is_symlink() or not copy.is_dir():
            continue
        step = _step_of(copy)
        if step is None:
            aside = folder / f"unreadable-{name}"
            discard(copy) if aside.exists() else copy.rename(aside)
            continue
        target = folder / name_of(step)
        if target.exists():
            discard(copy)
        else:
            copy.rename(target)
        point(folder, name, target)


def _step_of(checkpoint: Path) -> int | None:
    try:
        step = json.loads(read_limited(checkpoint / "state.json", MAX_STATE_BYTES))["step"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if type(step) is int and 0 <= step < 10**18 else None
