"""The training part of a data set, whole, and its held-out part: what memorisation is seen by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from genctl.data.spec import Split, parse_spec
from genctl.engine.run import Run
from genctl.errors import DataError, UsageError
from genctl.metrics.measure import Evidence, Features
from genctl.metrics.rows import Rows
from genctl.report import sides, unseen
from genctl.report.one_space import open_stored
from genctl.report.sides import ALL, Examples, Stored

if TYPE_CHECKING:
    from genctl.report.gather import Request


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
        unfit: why nothing can be searched for copies in this training part, if nothing can.
        warnings: what the reader of the numbers must know.
    """

    training: Examples | Stored
    held_out: Examples | Stored | None
    mirrored: bool = False
    without: str = ""
    unfit: DataError | None = None
    warnings: Sequence[str] = ()

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """One example of each part, where they are pictures or points."""
        both = (self.training, self.held_out)
        return [side.shape for side in both if isinstance(side, Examples)]

    @property
    def facts(self) -> dict[str, Any]:
        """Which examples they are, for the protocol."""
        both = {"training": self.training, "held_out": self.held_out}
        return {
            name: {**side.used, "split": side.facts["split"]}
            for name, side in both.items()
            if side is not None
        }

    def file_of(self, number: int) -> str | None:
        """The file of a training example, where it has one; mirror images come after all others."""
        side = self.training
        return side.file_of(number % len(side)) if isinstance(side, Examples) else None

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


def parts_of(request: Request, run: Run | None, *, stored: bool) -> Parts:
    """Open them.

    The parts are those that ``real`` was divided into for training, whichever of them it names.
    With ``held_out``, ``real`` is the training set: its training part for a run, else all of it.

    Args:
        request: names ``real``, a data SPEC or an npz of features, and ``held_out``, likewise or
            None, which takes the test part of ``real``.
        run: prepared the data, and may have been trained on mirror images.
        stored: whether ``real`` holds features.

    Raises:
        DataError: unfitting data.
        UsageError: a toy, a run that was trained on everything, or held-out examples that were all
            trained on.
    """
    real, held_out = request.real, request.held_out
    assert real is not None
    if stored:
        return _stored(request, run)
    named = parse_spec(real).split
    _refuse_no_training_part(run)

    def opened(text: str, split: Split | None, most: int | None, role: str) -> Examples:
        dataset = sides.open_examples(
            text,
            run,
            size=request.size,
            default_split=split,
            download=request.download,
            strict=request.strict,
        )
        if dataset.toy is not None:
            raise UsageError(
                text, "is drawn afresh for every batch: there is nothing to copy", "give a data set"
            )
        return Examples(dataset, most or len(dataset), request.seed, text, role, run)

    mirrored = run is not None and run.config.data.flip and run.spec.kind == "image"
    if held_out is not None:
        split: Split | None = "train" if run is not None else None
        training = opened(real, split, None, "training")
        other = opened(held_out, "test" if held_out == real else None, request.n, "held-out")
        return Parts(training, other, mirrored, warnings=unseen.overlap(training, other))
    whole = real.removesuffix(f"@{named}") if named is not None else real
    training = opened(f"{whole}@train", None, None, "training")
    if training.dataset.counts.get("test", 0) == 0:
        return Parts(training, None, mirrored, f"{whole} has no test part: give --held-out SPEC")
    return Parts(training, opened(f"{whole}@test", None, request.n, "held-out"), mirrored)


def _stored(request: Request, run: Run | None) -> Parts:
    assert request.real is not None
    for text in (request.real, request.held_out):
        if text is not None and not sides.has_stored(text, alone=False):
            raise DataError(text, "holds no features, the generated side does", "give an npz")
    training = open_stored(request.real, None, request.seed, "training", request.precision)
    unfit, warnings = _unfit(training, run)
    if run is not None and run.config.data.flip:
        warnings.append(
            f"memorization: {run.path} saw mirror images as well (data.flip), whose features "
            f"{training.name} does not hold: copies of those are not found"
        )
    if request.held_out is None:
        without = "features have no parts: give --held-out FILE.npz"
        return Parts(training, None, without=without, unfit=unfit, warnings=warnings)
    other = open_stored(request.held_out, request.n, request.seed, "held-out", request.precision)
    warnings += unseen.overlap(training, other)
    return Parts(training, other, unfit=unfit, warnings=warnings)


def _unfit(side: Stored, run: Run | None) -> tuple[DataError | None, list[str]]:
    """Why a file is no training part: it holds a sample of it, or another part; and doubts."""
    if not side.told:
        return None, []  # made elsewhere: the user knows what is in it
    split = side.facts["split"]
    spec = "SPEC" if run is None or run.config.data.spec is None else run.config.data.spec
    spec = spec.removesuffix(f"@{parse_spec(spec).split}") if spec != "SPEC" else spec
    how = "" if run is None else f" --run {run.path}"
    remedy = f"genctl data cache {spec}@train --statistics --features …{how} -n {{}} --out FILE.npz"
    if split == "test" or (split == "all" and run is not None):
        reason = f"holds features of the {split} part, and what was trained on is the train part"
        return DataError(side.name, reason, remedy.format("N")), []
    if side.of is None:
        text = f"{side.name} does not say of how many examples it holds {side.kept}"
        return None, [f"memorization: {text}: it is taken for the whole training part"]
    if side.kept < side.of:
        reason = f"holds {side.kept} of the {side.of} examples of its {split} part, and a copy may"
        return DataError(side.name, f"{reason} be of any", remedy.format(side.of)), []
    return None, []


def _refuse_no_training_part(run: Run | None) -> None:
    """A run that was trained on the test part has nothing held out."""
    spec = None if run is None else run.config.data.spec
    split = None if spec is None else parse_spec(spec).split
    if split in ("all", "test"):
        raise UsageError(
            str(spec), f"the run was trained on its {split} part", "train on @train, the default"
        )
