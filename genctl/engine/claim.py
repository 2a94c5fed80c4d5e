"""The default place of a run, ``runs/<preset>-<n>``: of several starts each gets its own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from genctl.engine.durable import make_folders
from genctl.engine.run_directory import NO_LOCKS, BusyError, RunDirectory


@dataclass(frozen=True)
class Claim:
    """A place taken for a run that has not begun.

    Attributes:
        directory: the place.
        handle: its lock.
        made: the folders that were made for it, outermost first.
    """

    directory: RunDirectory
    handle: IO[str]
    made: Sequence[Path]

    def release(self) -> None:
        """Let go of it; where no run was begun, what was made for it goes too."""
        path = self.directory.path
        if not self.directory.exists():
            with contextlib.suppress(OSError):  # what is not empty stays
                if [entry.name for entry in path.iterdir()] == [".lock"]:
                    (path / ".lock").unlink()  # while it is locked
                for folder in reversed(self.made):
                    folder.rmdir()
        self.handle.close()


def next_free(preset: str, parent: Path | None = None) -> Path:
    """``runs/<preset>-<n>``, the first where a run may begin; nothing is made there."""
    return next(place for place in _places(preset, parent) if RunDirectory(place).is_free())


def claim_next_free(
    preset: str, parent: Path | None = None, note: Callable[[str], object] | None = None
) -> Claim:
    """Take the first place where a run may begin, and its lock.

    A folder that a dead start left is taken over: whose lock is free belongs to nobody.

    Args:
        preset: what the run is called after.
        parent: the folder of runs, by default ``runs``.
        note: told what a user should know.

    Raises:
        GenctlError: nothing can be written here.
    """
    for place in _places(preset, parent):
        directory = RunDirectory(place)
        if not directory.is_free():
            continue
        directory.refuse_if_taken()  # says why a folder of runs cannot be written to
        made = make_folders(place.parent)
        try:
            place.mkdir()
            alone = True
        except FileExistsError:
            alone = False
        try:
            handle, locked = directory.try_lock()
        except BusyError:
            continue
        # Without locks, who made the folder has it. Another may have begun and ended meanwhile.
        if (alone or locked) and directory.is_free():
            if not locked and note is not None:
                note(NO_LOCKS)
            return Claim(directory, handle, [*made, place])
        handle.close()
    raise AssertionError("the numbers ended")


def _places(preset: str, parent: Path | None) -> Iterator[Path]:
    return ((parent or Path("runs")) / f"{preset}-{n}" for n in itertools.count(1))
