"""The run directory: its places, its address, its lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch

from genctl import __version__
from genctl.config.load import read_yaml, to_yaml
from genctl.config.schema import RunConfig
from genctl.engine.durable import make_folders
from genctl.engine.durable import write_atomically as write_atomically  # others have it from here
from genctl.errors import DataError, GenctlError, UsageError

_MADE_AT_START = re.compile(r"step-0+$|latest$|\.tmp-")
"""What the folder of checkpoints holds before a run is one."""

NO_LOCKS = (
    "warning: this file system has no locks: see to it that no other process trains the same run"
)


def split_address(address: str | Path) -> tuple[Path, str | None]:
    """``RUN@1000`` as the path and what stands after the ``@``; a folder of that very name wins."""
    text = str(address)
    if os.path.isdir(text) or "@" not in Path(text).name:
        return Path(text), None
    path, _, at = text.rpartition("@")
    return Path(path), at


@dataclass(frozen=True)
class RunDirectory:
    """Where everything of a run is."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """One JSON object per log interval."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """All checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Previews by step, always of the same latents."""
        return self.path / "samples"

    @property
    def reports(self) -> Path:
        """Evaluations, curves, pages."""
        return self.path / "reports"

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return os.path.exists(self.config_file)  # False too for names that no file can have

    def refuse_links_out(self) -> None:
        """A run from elsewhere must not have files of this machine written to through links.

        Raises:
            DataError: a part of the run leads out of it, or is a pipe that nobody may ever end.
        """
        parts = (self.metrics_file, self.checkpoints, self.samples, self.reports)
        for place in (
            *parts,
            self.config_file,
            self.path / "environment.json",
            self.path / ".lock",
        ):
            if place.is_symlink() and not place.resolve().is_relative_to(self.path.resolve()):
                reason = "is a link that leads out of the run"
                raise DataError(str(place), reason, "put what it points to in its place")
            if os.path.exists(place) and not (os.path.isfile(place) or os.path.isdir(place)):
                raise DataError(str(place), "is neither a file nor a folder", "remove it")

    def config(self) -> RunConfig:
        """The run's configuration.

        Raises:
            DataError: not a run directory, its configuration is damaged, or it leads elsewhere.
        """
        self.refuse_links_out()
        if not self.path.is_dir():
            raise DataError(
                str(self.path), "no such run directory", "`ls runs` shows what there is"
            )
        if not self.exists():
            if any(self.path.iterdir()) and _is_unfinished(self.path):
                reason = "a start that was interrupted before it was a run"
                raise DataError(str(self.path), reason, "start it again with the same --out")
            raise DataError(
                str(self.path), "not a run: it has no config.yaml", "give a run directory"
            )
        return read_yaml(self.config_file)

    def refuse_if_taken(self) -> None:
        """Make sure that a new run may begin here; what a killed start left is no obstacle.

        Raises:
            UsageError: there is a run or something else already.
            GenctlError: nothing can be written here.
        """
        if _is_too_long(self.path):
            raise UsageError(str(self.path), "is too long a name", "choose another --out")
        if self.exists():
            raise UsageError(
                str(self.path), "a run is already here", f"--resume {self.path}, or another --out"
            )
        if self.path.is_symlink() and not self.path.exists():
            reason = f"is a link to {os.readlink(self.path)}, where nothing is"
            raise UsageError(str(self.path), reason, "choose another --out")
        if not self.is_free():
            raise UsageError(str(self.path), "exists and is not empty", "choose another --out")
        place = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            reason = f"cannot be written: {place} is read-only"
            raise GenctlError(str(self.path), reason, "choose a place you may write to with --out")

    def is_free(self) -> bool:
        """Whether nothing is here, or only what a start left that was killed or is going on."""
        try:
            return not self.path.exists() or (self.path.is_dir() and _is_unfinished(self.path))
        except OSError:  # one that may not be looked into
            return False

    def create(self, config: RunConfig, first: Callable[[], object] | None = None) -> None:
        """Begin a run here.

        Args:
            config: kept last of all: from then on this is a run. A start that is killed earlier
                leaves nothing that must be gone on with, and can be repeated.
            first: writes what a run must have from its beginning, its first checkpoint.

        Raises:
            UsageError: there is a run or something else already.
            GenctlError: nothing can be written here.
        """
        self.refuse_if_taken()
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        make_folders(self.path, self.checkpoints, self.samples, self.reports)
        self.write_environment()
        if first is not None:
            first()
        self.write_config(config)

    def require_seen(self) -> None:
        """Make sure that this process sees the run that another one began.

        Raises:
            UsageError: it is on a disk of another machine.
        """
        if not self.exists():
            raise UsageError(
                str(self.path),
                "the run that process 0 began is not here",
                "choose an --out on a file system that all machines share",
            )

    def write_config(self, config: RunConfig) -> None:
        """Keep the resolved configuration; a resumed run may have another length or cadence."""
        write_atomically(self.config_file, to_yaml(config))

    def write_environment(self, **more: Any) -> None:
        """Record versions, device and command line beside the run."""
        facts = {**environment(), **more}
        write_atomically(self.path / "environment.json", json.dumps(facts, indent=1) + "\n")

    def lock(self, note: Callable[[str], object] | None = None) -> IO[str]:
        """Take the run for this process; the operating system frees it when the process ends.

        Args:
            note: told that there are no locks here, if so: then it is up to the user.

        Raises:
            UsageError: another process is training this run.
            GenctlError: nothing can be written here.
        """
        handle, locked = self.try_lock()
        if not locked and note is not None:
            note(NO_LOCKS)
        return handle

    def try_lock(self) -> tuple[IO[str], bool]:
        """``lock``, and whether the file system has locks at all."""
        self.refuse_links_out()
        place = self.path / ".lock"
        while True:
            try:
                make_folders(self.path)
                handle = place.open("a")
            except OSError as error:
                remedy = (
                    "make it writable, or copy it with `cp -r` and go on with the copy"
                    if self.exists()
                    else "choose a place you may write to with --out"
                )
                raise GenctlError(
                    str(self.path), f"cannot be written: {error.strerror}", remedy
                ) from None
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                raise BusyError(
                    str(self.path),
                    "another process is training this run",
                    "wait for it, or stop it",
                ) from None
            except OSError:
                return handle, False
            if _is_still(place, handle):
                return handle, True
            handle.close()  # who had it before gave its place up, and took the file away


class BusyError(UsageError):
    """Another process has the run."""


def environment() -> dict[str, Any]:
    """Versions, device and command line, for ``environment.json`` and protocols."""
    packages = ("torch", "torchvision", "numpy", "scipy", "pillow", "safetensors", "pydantic")
    return {
        "genctl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git": _git_state(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _is_unfinished(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a start that was killed can have left."""
    for entry in path.iterdir():
        if entry.name == "checkpoints" and entry.is_dir():
            if not all(_MADE_AT_START.match(inner.name) for inner in entry.iterdir()):
                return False
        elif entry.name in ("samples", "reports") and entry.is_dir():
            if any(entry.iterdir()):
                return False
        elif entry.name not in (
            ".lock",
            "environment.json",
            ".environment.json.tmp",
            ".config.yaml.tmp",
        ):
            return False
    return True


def _is_still(path: Path, handle: IO[str]) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except OSError:
        return False


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _git_state() -> str | None:
    """The commit of the working folder, when it is a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
