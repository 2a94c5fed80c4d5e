"""The run directory: its places, its address, its lock."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch

from genctl import __version__
from genctl.config.load import read_yaml, to_yaml
from genctl.config.schema import RunConfig
from genctl.errors import DataError, UsageError


def split_address(address: str | Path) -> tuple[Path, str | None]:
    """``RUN@1000`` as the path and what stands after the ``@``; a folder of that very name wins."""
    text = str(address)
    if Path(text).is_dir() or "@" not in Path(text).name:
        return Path(text), None
    path, _, at = text.rpartition("@")
    return Path(path), at


def next_free(preset: str, parent: Path | None = None) -> Path:
    """``runs/<preset>-<n>``, the first that does not exist."""
    parent = parent or Path("runs")
    number = 1
    while (parent / f"{preset}-{number}").exists():
        number += 1
    return parent / f"{preset}-{number}"


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that it is either the old one or the new one."""
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


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
        return self.config_file.exists()

    def config(self) -> RunConfig:
        """The run's configuration.

        Raises:
            DataError: not a run directory, or its configuration is damaged.
        """
        if not self.path.is_dir():
            raise DataError(
                str(self.path), "no such run directory", "`ls runs` shows what there is"
            )
        if not self.exists():
            raise DataError(
                str(self.path), "not a run: it has no config.yaml", "give a run directory"
            )
        return read_yaml(self.config_file)

    def refuse_if_taken(self) -> None:
        """Make sure that a new run may begin here.

        Raises:
            UsageError: there is a run or something else already.
        """
        if self.exists():
            raise UsageError(
                str(self.path), "a run is already here", f"--resume {self.path}, or another --out"
            )
        if self.path.exists() and (not self.path.is_dir() or any(_contents(self.path))):
            raise UsageError(str(self.path), "exists and is not empty", "choose another --out")

    def create(self, config: RunConfig) -> None:
        """Begin a run here.

        Raises:
            UsageError: there is a run or something else already.
        """
        self.refuse_if_taken()
        for folder in (self.path, self.checkpoints, self.samples, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        self.write_environment()
        self.write_config(config)

    def write_config(self, config: RunConfig) -> None:
        """Keep the resolved configuration; a resumed run may have another length or cadence."""
        write_atomically(self.config_file, to_yaml(config))

    def write_environment(self, **more: Any) -> None:
        """Record versions, device and command line beside the run."""
        facts = {**environment(), **more}
        write_atomically(self.path / "environment.json", json.dumps(facts, indent=1) + "\n")

    def lock(self) -> IO[str]:
        """Take the run for this process; the operating system frees it when the process ends.

        Raises:
            UsageError: another process is training this run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        handle = (self.path / ".lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise UsageError(
                str(self.path), "another process is training this run", "wait for it, or stop it"
            ) from None
        return handle


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


def _contents(path: Path) -> list[Path]:
    """What is in a folder besides our own lock."""
    return [entry for entry in path.iterdir() if entry.name != ".lock"]


def _git_state() -> str | None:
    """The commit of the working folder, when it is a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
