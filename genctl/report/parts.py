"""The training part of a data set, whole, and its held-out part: what memorisation is seen by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from genctl.data.spec import Split, parse_spec
from genctl.engine.run import Run
from genctl.errors import DataError, UsageError
from genctl.metrics.measure import Evidence, Features
from genctl.metrics.rows import Rows
from genctl.report import sides
from genctl.report.sides import ALL, Examples, Stored


class Mirrored(Examples):
    """The same rows, mirrored: what a run that was trained with ``data.flip`` has seen as well."""

    def __init__(self, side: Examples) -> None:
        self.dataset, self.name, self.shape = side.dataset, side.name, side.shape
        self.rows, self.facts, self.used = side.rows, side.facts, side.used

    def batches(self, size: int, part: slice = ALL) -> Iterator[Tensor]:
        """The chosen rows, or those of some of the batches."""
        for images in super().batches(size, part):
            yield images.flip(-1)


@dataclass(frozen=True)
class Parts:
    """Both parts.

    Attributes:
        training: all of it, however few examples were asked for: a copy is a copy of any.
        held_out: at most n examples, or None.
        mirrored: whether the mirror images are searched as well.
        without: why there is no held-out part.
    """

    training: Examples | Stored
    held_out: Examples | Stored | None
    mirrored: bool = False
    without: str = ""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """One example of each part, where they are pictures or points."""
        both = (self.training, self.held_out)
        return [side.shape for side in both if isinstance(side, Examples)]

    @property
    def facts(self) -> dict[str, Any]:
        """Which examples they are, for the protocol."""
        both = {"training": self.training, "held_out": self.held_out}
        return {name: side.used for name, side in both.items() if side is not None}

    def see(
        self,
        evidence: Evidence,
        features: Callable[[Examples], Features],
        say: Callable[[str], None],
    ) -> None:
        """Put the features of both parts into the evidence."""
        say(f"features of {len(self.training)} training examples")
        evidence.facts["memorization"] = self.facts
        evidence.training = self._seen(self.training, features)
        evidence.mirrored = self.mirrored
        if self.held_out is not None:
            evidence.held_out = self._seen(self.held_out, features)
        else:
            evidence.warn(f"memorization: nothing is held out ({self.without}): numbers are few")

    def _seen(self, side: Examples | Stored, features: Callable[[Examples], Features]) -> Features:
        if isinstance(side, Stored):
            return side.features
        found = features(side)
        if not self.mirrored:
            return found
        more = features(Mirrored(side))
        assert found.values is not None
        assert more.values is not None
        both = Rows()
        for part in (found.values, more.values):
            both.extend(part)
        return Features(both.whole())


def parts_of(
    real: str,
    held_out: str | None,
    run: Run | None,
    *,
    stored: bool,
    n: int,
    seed: int,
    size: int | Literal["native"],
    download: bool,
    strict: bool,
) -> Parts:
    """Open them.

    The parts are those that ``real`` was divided into for training, whichever of them it names.
    With ``held_out``, ``real`` is the training set: its training part for a run, else all of it.

    Args:
        real: a data SPEC, or an npz of features.
        held_out: a data SPEC, or an npz of features; None takes the test part of ``real``.
        run: prepared the data, and may have been trained on mirror images.
        stored: whether features were stored on the generated side.
        n: at most so many held-out examples, chosen by seed.
        seed: chooses them.
        size: edge of the pictures where no run decides it.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.

    Raises:
        DataError: unfitting data.
        UsageError: a toy, or a run that was trained on everything.
    """
    if stored:
        return _stored(real, held_out, n, seed)
    named = parse_spec(real).split
    _refuse_no_training_part(run)

    def opened(text: str, split: Split | None, most: int | None, role: str) -> Examples:
        dataset = sides.open_examples(
            text, run, size=size, default_split=split, download=download, strict=strict
        )
        if dataset.toy is not None:
            raise UsageError(
                text, "is drawn afresh for every batch: there is nothing to copy", "give a data set"
            )
        return Examples(dataset, most or len(dataset), seed, text, role)

    mirrored = run is not None and run.config.data.flip and run.spec.kind == "image"
    if held_out is not None:
        split: Split | None = "train" if run is not None else None
        other = opened(held_out, "test" if held_out == real else None, n, "held-out")
        return Parts(opened(real, split, None, "training"), other, mirrored)
    whole = real.removesuffix(f"@{named}") if named is not None else real
    training = opened(f"{whole}@train", None, None, "training")
    if training.dataset.counts.get("test", 0) == 0:
        return Parts(training, None, mirrored, f"{whole} has no test part: give --held-out SPEC")
    return Parts(training, opened(f"{whole}@test", None, n, "held-out"), mirrored)


def _stored(real: str, held_out: str | None, n: int, seed: int) -> Parts:
    for text in (real, held_out):
        if text is not None and not sides.has_stored(text, alone=False):
            raise DataError(text, "holds no features, the generated side does", "give an npz")
    everything = np.iinfo(np.int64).max
    training = Stored(Path(real), int(everything), seed, "training")
    if held_out is None:
        return Parts(training, None, without="features have no parts: give --held-out FILE.npz")
    return Parts(training, Stored(Path(held_out), n, seed, "held-out"))


def _refuse_no_training_part(run: Run | None) -> None:
    """A run that was trained on the test part has nothing held out."""
    spec = None if run is None else run.config.data.spec
    split = None if spec is None else parse_spec(spec).split
    if split in ("all", "test"):
        raise UsageError(
            str(spec), f"the run was trained on its {split} part", "train on @train, the default"
        )
