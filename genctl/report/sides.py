"""The two sides of a comparison: a run that is sampled on the fly, or examples that lie there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genctl.data.dataset import Dataset, open_dataset
from genctl.data.ranges import to_bytes
from genctl.data.spec import Split, parse_spec
from genctl.engine.run import Run
from genctl.engine.run_directory import RunDirectory, split_address
from genctl.errors import UsageError
from genctl.metrics.features import stored
from genctl.metrics.measure import Array, Features
from genctl.randomness import RandomStream
from genctl.report import preparation

DEFAULT_N = 10_000
ALL = slice(None)
"""Every batch; a process that shares the work takes every so many."""


class Stored:
    """Rows of features or probabilities from a file; there is nothing to stream.

    Args:
        path: the npz.
        n: rows at most, chosen by seed; None takes all.
        seed: chooses them.
        role: of the side, so that two sides draw independently.

    Attributes:
        told: whose features they are and of which data, where the file says it; else empty.
        kept: rows of the file.
        of: examples of the data that those were drawn from; None where the file does not say it.
        numbers: ``(kept,)`` which rows of the data they are, where the file says it.
        chosen: ``(n,)`` rows of the file that are taken.
    """

    def __init__(self, path: Path, n: int | None, seed: int, role: str) -> None:
        self.name = str(path)
        self._whole = whole = stored.read(path)
        self.told = stored.protocol_of(path)
        self.kept = len(whole)
        data = self.told.get("data", {})
        of = data.get("of") if self.told else self.kept
        self.of = of if isinstance(of, int) and of >= self.kept else None
        self.numbers = stored.numbers_of(path, self.kept)
        self.facts: dict[str, Any] = {"split": None, **data, "kind": "stored"}
        self.facts.setdefault("fingerprint", _digest(whole))
        self.facts["precision"] = stored.precision_of(path)
        self.choose(chosen_rows(self.kept, self.kept if n is None else n, seed, role).numpy())
        self.facts["n"] = len(self)
        self.used = used(self.facts["fingerprint"], len(self), self.kept, seed)

    def __len__(self) -> int:
        return len(self.features)

    def choose(self, rows: Array) -> None:
        """Take these rows of the file."""
        self.chosen, whole = rows, self._whole
        if np.array_equal(rows, np.arange(self.kept)):
            self.features = whole  # not twice in memory
            return
        self.features = Features(
            None if whole.values is None else whole.values[rows],
            None if whole.log_probabilities is None else whole.log_probabilities[rows],
        )


class Sampled:
    """Samples of a run, quantised to bytes as if they had been saved as PNG.

    Attributes:
        asked: ``(n,)`` labels that a conditional run is asked for, one class after the other.
    """

    def __init__(self, run: Run, n: int, seed: int) -> None:
        run.require("sample")
        self.run, self.n, self.seed = run, n, seed
        self.name = str(run.path)
        self.shape = run.spec.shape
        self.asked: Tensor | None = None
        if run.model.conditional:
            self.asked = torch.arange(n) % run.spec.classes
        self.facts: dict[str, Any] = {
            "kind": "run",
            "step": run.step,
            "weights": run.weights,
            "precision": run.precision,
        }

    def __len__(self) -> int:
        return self.n

    def batches(self, size: int, part: slice = ALL) -> Iterator[Tensor]:
        """Draw as many as are needed at a time; sample i is the same whatever the batch size.

        ``part`` says which of the batches; the others are not drawn.
        """
        for first in range(0, self.n, size)[part]:
            count = min(size, self.n - first)
            labels = None if self.asked is None else self.asked[first : first + count]
            drawn = self.run.sample(
                count, self.seed, labels, batch_size=size, first=first, shared=False
            )
            yield to_bytes(drawn) if self.run.spec.kind == "image" else drawn


class Examples:
    """Rows of a data set: all, or ``n`` chosen by seed; files in the order of their names.

    Args:
        dataset: the data.
        n: rows at most.
        seed: chooses them.
        name: the data SPEC.
        role: of the side, so that two sides draw independently.
        run: the one whose preparation the data was opened with, if any.
    """

    def __init__(
        self, dataset: Dataset, n: int, seed: int, name: str, role: str, run: Run | None = None
    ) -> None:
        self.dataset, self.name = dataset, name
        self.shape = dataset.spec.shape
        # By file name, the order of other tools: the splits of the Inception score depend on it.
        names = dataset.names or []
        order = torch.tensor(sorted(range(len(names)), key=names.__getitem__), dtype=torch.long)
        rows = chosen_rows(len(dataset), n, seed, role)
        self.rows = order[rows] if names else rows
        self.facts: dict[str, Any] = {
            "kind": "data",
            "split": dataset.split,
            "fingerprint": dataset.fingerprint,
            "shape": list(self.shape),
            **preparation.of(dataset, name, run),
            "n": len(rows),
            "of": len(dataset),
            **({"seed": seed} if len(rows) < len(dataset) else {}),
        }
        self.used = used(dataset.fingerprint, len(rows), len(dataset), seed)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Array | Tensor) -> None:
        """Take these rows of the data set, in this order."""
        self.rows = torch.as_tensor(rows, dtype=torch.long)

    def file_of(self, number: int) -> str | None:
        """The file of the example at a place among the chosen ones, where it has one."""
        names = self.dataset.names
        return names[int(self.rows[number])] if names else None

    def batches(self, size: int, part: slice = ALL) -> Iterator[Tensor]:
        """The chosen rows, or those of some of the batches."""
        for rows in self.rows.split(size)[part]:
            images = self.dataset.images(rows)
            if self.dataset.binarise == "threshold":
                images = (images >= 128).to(torch.uint8) * 255
            yield images


def is_run(text: str | Path) -> bool:
    """Whether a text addresses a run directory."""
    path, _ = split_address(text)
    return RunDirectory(path).exists()


def open_examples(
    text: str,
    run: Run | None = None,
    *,
    size: int | Literal["native"] = "native",
    default_split: Split | None = None,
    draws: bool = True,
    whole: bool = False,
    download: bool = False,
    strict: bool = False,
) -> Dataset:
    """Open a data SPEC for measuring, prepared as ``run`` prepared its own data.

    A folder, archive or npz is taken whole unless the SPEC names a split: what the user points at
    is what is measured. Named sets keep their own default, the training part.

    Args:
        text: the SPEC.
        run: decides size, crop, held-out share and binarisation; None leaves pictures as they are.
        size: their edge where no run decides it.
        default_split: the part to take where the SPEC names none.
        draws: turn dynamic binarisation into one draw, with seed 0.
        whole: with the labels that the run's training left out.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.
    """
    source = parse_spec(text)
    split = source.split or default_split or ("all" if source.kind == "path" else None)
    if run is None:
        plain = open_dataset(text, size=size, split=split, download=download, strict=strict)
        if plain.spec.kind == "points":
            require_native(size, text, "holds points")
        return plain
    prepared = run.config.data
    size = prepared.size
    if run.spec.kind == "image" and run.spec.shape[1] == run.spec.shape[2]:
        size = run.spec.shape[1]  # a native run is compared with data of its own size, too
    binarise = prepared.binarise
    return open_dataset(
        text,
        size=size,
        split=split,
        crop=prepared.crop,
        holdout=prepared.holdout,
        binarise="fixed" if draws and binarise == "dynamic" else binarise,
        without=() if whole else prepared.without,
        download=download,
        strict=strict,
    )


def require_native(size: int | Literal["native"], thing: str, reason: str) -> None:
    """Refuse a ``--size`` that would decide nothing.

    Raises:
        UsageError: one was asked for.
    """
    if size != "native":
        raise UsageError(f"--size {size}", f"{thing} {reason}", "leave --size out")


def chosen_rows(length: int, n: int, seed: int, role: str) -> Tensor:
    """Row numbers, ascending: all, or ``n`` chosen by seed."""
    if n >= length:
        return torch.arange(length)
    return RandomStream(seed, "evaluate", role).permutation(length)[:n].sort().values


def used(fingerprint: str, n: int, of: int, seed: int) -> dict[str, Any]:
    """Which examples a number was taken of, for its protocol; the seed where it chose them."""
    return {"fingerprint": fingerprint, "n": n, **({"seed": seed} if n < of else {})}


def _digest(features: Features) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (features.values, features.log_probabilities):
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def has_stored(text: str | Path, *, alone: bool) -> bool:
    """Whether an npz holds features or probabilities (``alone``: and neither images nor points)."""
    names = set(stored.arrays_in(Path(text)))
    return bool(names & set(stored.NAMES)) and not (alone and names & {"images", "points"})
