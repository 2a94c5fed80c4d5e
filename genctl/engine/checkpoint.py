"""Checkpoints: written under a temporary name, synced, renamed; verified when read.

``checkpoints/step-00001000/`` holds ``weights.safetensors``, ``averaged.safetensors``,
``optimisers.safetensors`` (moments, generators, the partial log window) and ``state.json`` (counts,
schedules, position, what of the configuration may not change, and the checksums of the others). A
kill at any instant leaves either the old set of checkpoints or the new one. Nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from genctl.data.limits import physical_memory
from genctl.engine.checkpoint_schema import problem_of
from genctl.engine.durable import discard, make_folders, sync_folder
from genctl.engine.pointers import MAX_STATE_BYTES, STEP, name_of, point, pointed
from genctl.errors import DataError, NonFiniteError
from genctl.printable import printable
from genctl.reading import content_of, open_regular

SCHEMA = 1
FILES = ("weights", "averaged", "optimisers")
ATTEMPTS = 5
"""How often the latest checkpoint is looked for, while a run may be replacing it."""


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
    make_folders(folder)
    _sweep(folder)  # what killed writers left may be all that fills the disk
    target = folder / name_of(checkpoint.step)
    partial = folder / f".tmp-{target.name}-{os.getpid()}"
    try:
        partial.mkdir()
        sums = {}
        for name in FILES:
            content = save(_plain(getattr(checkpoint, name)))
            sums[name] = hashlib.sha256(content).hexdigest()
            _write_synced(partial / f"{name}.safetensors", content)
        state = {"schema": SCHEMA, "step": checkpoint.step, **checkpoint.state, "sha256": sums}
        state["checksum"] = _checksum(state)
        _write_synced(partial / "state.json", json.dumps(state).encode())
        sync_folder(partial)
        if target.exists():
            discard(target)
        partial.rename(target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):  # a failed write tells no name, and users know this one
            error.filename = str(target)
        raise
    point(folder, "latest", target)
    return target


def find(folder: Path, at: str | None = None) -> Checkpoint:
    """Locate a checkpoint and read it.

    A run that goes on meanwhile removes what it does not keep: then it has a newer one.

    Raises:
        DataError: there is none such, or it is missing, damaged, or written by a newer genctl.
    """
    for _ in range(ATTEMPTS):
        path, before = None, None
        try:
            path = locate(folder, at)
            before = _identity(path)
            return read(path)
        except DataError:
            by_name = at not in (None, "latest", "best")
            if by_name or (path is not None and before is not None and _identity(path) == before):
                raise
    return read(locate(folder, at))


def read(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        DataError: missing, damaged, or written by a newer genctl.
    """
    with ExitStack() as opened:
        place = path / "state.json"
        files: dict[str, io.BufferedReader] = {}
        try:
            files["state"] = opened.enter_context(open_regular(place))
            # All at once: what is open stays, though the run may remove its name meanwhile.
            for name in FILES:
                place = path / f"{name}.safetensors"
                files[name] = opened.enter_context(open_regular(place))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not files:
                raise DataError(str(path), "no checkpoint here", _other(path)) from None
            raise DataError(str(place), f"cannot be read: {error.strerror}", _other(path)) from None
        state, sums = _state_of(path, files["state"])
        tensors = {
            name: _tensors_of(path / f"{name}.safetensors", files[name], sums[name])
            for name in FILES
        }
    problem = problem_of(state, tensors["optimisers"])
    if problem:
        reason = f"not a state of genctl's: {printable(problem)}"
        raise DataError(str(path / "state.json"), reason, _other(path))
    del state["schema"]
    return Checkpoint(step=state.pop("step"), state=state, **tensors)


def read_state(path: Path) -> dict[str, Any]:
    """The state of a checkpoint alone, for who needs none of its tensors; only its sum is verified.

    Raises:
        DataError: missing, damaged, or written by a newer genctl.
    """
    try:
        with open_regular(path / "state.json") as file:
            return _state_of(path, file)[0]
    except OSError:
        raise DataError(str(path), "no checkpoint here", _other(path)) from None


def _state_of(path: Path, file: io.BufferedReader) -> tuple[dict[str, Any], dict[str, str]]:
    """The state of the checkpoint at ``path``, and the checksums of its other files."""
    place = path / "state.json"
    try:
        state = json.loads(content_of(file, MAX_STATE_BYTES, place))
        recorded = state.pop("checksum")
        whole = recorded == _checksum(state)
        sums = {name: str(state["sha256"][name]) for name in FILES}
        newer = int(state["schema"]) > SCHEMA
        del state["sha256"]
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise DataError(str(place), reason, _other(path)) from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise DataError(str(place), "damaged: not readable", _other(path)) from None
    if not whole:
        raise DataError(str(place), "damaged: checksum differs", _other(path))
    if newer:
        raise DataError(str(path), "written by a newer genctl", "update genctl")
    return state, sums


def steps(folder: Path) -> list[int]:
    """Steps of all complete checkpoints, ascending."""
    if not folder.is_dir():
        return []
    # A link of such a name was not made by genctl, and may lead anywhere.
    found = [p.name for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]
    return sorted(int(match[1]) for name in found if (match := STEP.match(name)))


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
    if at in (None, "latest"):  # whatever the link says: it is set after the checkpoint is there
        return folder / name_of(known[-1])
    if at == "best":
        chosen = pointed(folder, "best")
        if chosen is not None and chosen in known:
            return folder / name_of(chosen)
        raise DataError(
            f"{folder.parent}@best",
            "no best checkpoint: none was chosen by a measure, or it was not kept",
            "name a step; `evaluate.every` and `evaluate.best` choose one while training",
        )
    if re.fullmatch(r"[0-9]{1,18}", str(at)) and int(str(at)) in known:
        return folder / name_of(int(str(at)))
    listed = ", ".join(map(str, known))
    thing = f"{folder.parent}@{printable(at)}"
    raise DataError(thing, f"no such step; it has {listed}", "name one of these")


def newest(folder: Path) -> int | None:
    """The last step that is there."""
    return max(steps(folder), default=None)


def prune(folder: Path, keep: int) -> None:
    """Remove temporary leftovers and all but the last ``keep`` checkpoints (0: keep all).

    The checkpoints that ``latest`` and ``best`` point to stay.
    """
    _sweep(folder)
    if keep:
        pinned = {pointed(folder, "latest"), pointed(folder, "best")}
        for step in steps(folder)[:-keep]:
            if step not in pinned:
                discard(folder / name_of(step))


def drop_after(folder: Path, step: int) -> list[int]:
    """Remove checkpoints later than ``step``: the run is about to be continued from there.

    The newest goes first, so that a kill on the way leaves a run that ends at one of them.
    """
    later = [s for s in steps(folder) if s > step]
    if later:
        point(folder, "latest", folder / name_of(step))
    for found in reversed(later):
        discard(folder / name_of(found))
    return later


def _sweep(folder: Path) -> None:
    """Remove what writers left that were killed; the run's lock says that none is at work."""
    for leftover in folder.glob(".tmp-*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU; safetensors refuses tensors that share memory."""
    return {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}


def _tensors_of(path: Path, file: io.BufferedReader, recorded: str) -> dict[str, Tensor]:
    try:
        content = content_of(file, physical_memory() // 2, path)  # beside it the tensors are made
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read: {error.strerror}", _other(path.parent)
        ) from None
    if hashlib.sha256(content).hexdigest() != recorded:
        raise DataError(str(path), "damaged: its checksum differs", _other(path.parent))
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
        reason = f"damaged: {printable(' '.join(str(error).split()))}"
        raise DataError(str(path), reason, _other(path.parent)) from None
    return tensors


def _other(path: Path) -> str:
    """The remedy for a checkpoint that cannot be used: another one, if there is one."""
    path = path.resolve()
    match = STEP.match(path.name)
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


def _identity(path: Path) -> int | None:
    """Tells a checkpoint from a later one of the same name; None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
