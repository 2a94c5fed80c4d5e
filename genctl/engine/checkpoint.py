"""Checkpoints: written under a temporary name, synced, renamed; verified when read.

``checkpoints/step-00001000/`` holds ``weights.safetensors``, ``averaged.safetensors``,
``optimisers.safetensors`` (moments, generators, the partial log window) and ``state.json`` (counts,
schedules, position, and the checksums of the others). A kill at any instant leaves either the old
set of checkpoints or the new one. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from genctl.errors import DataError, NonFiniteError

SCHEMA = 1
FILES = ("weights", "averaged", "optimisers")
_STEP = re.compile(r"^step-(\d{8,})$")


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        step: training steps done.
        weights: the model's state, buffers included.
        averaged: the averaged sub-modules, keyed like the weights; may be empty.
        optimisers: every other tensor needed to go on, under prefixed names.
        state: plain numbers and strings needed to go on.
    """

    step: int
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimisers: dict[str, Tensor]
    state: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint atomically and point ``latest`` at it.

    Args:
        folder: the run's ``checkpoints`` directory.
        checkpoint: what to write.

    Raises:
        NonFiniteError: a weight is not finite; nothing is written.
    """
    for name, tensor in checkpoint.weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteError(
                f"weights {name}",
                f"non-finite at step {checkpoint.step}",
                "lower the learning rate; the last good checkpoint is kept",
            )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{checkpoint.step:08d}"
    partial = folder / f".tmp-{target.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        sums = {}
        for name in FILES:
            content = save(_plain(getattr(checkpoint, name)))
            sums[name] = hashlib.sha256(content).hexdigest()
            _write_synced(partial / f"{name}.safetensors", content)
        state = {"schema": SCHEMA, "step": checkpoint.step, **checkpoint.state, "sha256": sums}
        state["checksum"] = _checksum(state)
        _write_synced(partial / "state.json", json.dumps(state, indent=1).encode())
        _sync_folder(partial)
        if target.exists():  # the same step again, after `--resume RUN@step`
            shutil.rmtree(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    point(folder, "latest", target)
    return target


def point(folder: Path, name: str, target: Path) -> None:
    """Make ``name`` a relative symbolic link to a checkpoint, atomically."""
    link = folder / f".tmp-{name}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    link.replace(folder / name)
    _sync_folder(folder)


def read(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        DataError: missing, damaged, or written by a newer genctl.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        recorded = state.pop("checksum")
        whole = recorded == _checksum(state)
        sums = state.pop("sha256")
    except FileNotFoundError:
        raise DataError(str(path), "no checkpoint here", _other(path)) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}/state.json", "damaged: not readable", _other(path)) from None
    if not whole:
        raise DataError(f"{path}/state.json", "damaged: checksum differs", _other(path))
    if state.pop("schema") > SCHEMA:
        raise DataError(str(path), "written by a newer genctl", "update genctl")
    tensors = {name: _read_tensors(path / f"{name}.safetensors", sums[name]) for name in FILES}
    return Checkpoint(step=state.pop("step"), state=state, **tensors)


def steps(folder: Path) -> list[int]:
    """Steps of all complete checkpoints, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(m[1]) for p in folder.iterdir() if (m := _STEP.match(p.name)) and p.is_dir())


def locate(folder: Path, at: str | None = None) -> Path:
    """The directory of a checkpoint.

    Args:
        folder: the run's ``checkpoints`` directory.
        at: a step, ``best``, ``latest``, or None for the latest.

    Raises:
        DataError: there is none such; the steps that exist are named.
    """
    known = steps(folder)
    if not known:
        raise DataError(str(folder.parent), "has no checkpoint", "is this a run directory?")
    if at in (None, "latest", "best"):
        link = folder / (at or "latest")
        if link.is_dir():
            return link.resolve()
        if at != "best":  # killed between the rename and the link
            return folder / f"step-{known[-1]:08d}"
        raise DataError(
            f"{folder.parent}@best",
            "no best checkpoint: none was chosen by a named measure",
            "name a step",
        )
    if re.fullmatch(r"[0-9]+", str(at)) and int(str(at)) in known:
        return folder / f"step-{int(str(at)):08d}"
    listed = ", ".join(map(str, known))
    raise DataError(f"{folder.parent}@{at}", f"no such step; it has {listed}", "name one of these")


def prune(folder: Path, keep: int) -> None:
    """Remove temporary leftovers and all but the last ``keep`` checkpoints (0: keep all).

    The checkpoints that ``latest`` and ``best`` point to stay.
    """
    for leftover in folder.glob(".tmp-*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    if keep:
        pinned = {link.resolve() for n in ("latest", "best") if (link := folder / n).is_symlink()}
        for step in steps(folder)[:-keep]:
            path = folder / f"step-{step:08d}"
            if path.resolve() not in pinned:
                shutil.rmtree(path)


def drop_after(folder: Path, step: int) -> list[int]:
    """Remove checkpoints later than ``step``: the run is about to be continued from there."""
    later = [s for s in steps(folder) if s > step]
    if later:
        point(folder, "latest", folder / f"step-{step:08d}")
    for found in later:
        shutil.rmtree(folder / f"step-{found:08d}")
    return later


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU; safetensors refuses tensors that share memory."""
    return {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}


def _read_tensors(path: Path, recorded: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read: {error.strerror}", _other(path.parent)
        ) from None
    if hashlib.sha256(content).hexdigest() != recorded:
        raise DataError(str(path), "damaged: its checksum differs", _other(path.parent))
    try:
        tensors: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise DataError(str(path), f"damaged: {error}", _other(path.parent)) from None
    return tensors


def _other(path: Path) -> str:
    """The remedy for a checkpoint that cannot be used: another one, if there is one."""
    path = path.resolve()
    match = _STEP.match(path.name)
    known = [s for s in steps(path.parent) if match is None or s != int(match[1])]
    if not known:
        return "start again with `genctl train`"
    return f"use another checkpoint: {path.parent.parent}@{known[-1]}"


def _checksum(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make names durable. A file system that cannot sync a directory still renames atomically."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
