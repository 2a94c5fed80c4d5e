"""A data set, opened: its facts, its examples as uint8, and what was found on the way."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genctl.data.chosen_rows import ChosenRows
from genctl.data.decode import Crop
from genctl.data.decoding import Progress, Transform
from genctl.data.limits import MAX_CLASSES
from genctl.data.spec import DataSource, Split, parse_spec
from genctl.data.stacked import count_of, triples
from genctl.data.tables import Table, read_table
from genctl.data.toys import Toy, make_toy
from genctl.data.triangles import Triangles, make_triangles
from genctl.errors import DataError, UsageError
from genctl.randomness import RandomStream, seed_of
from genctl.types import DataSpec

Binarise = Literal["none", "threshold", "dynamic", "fixed"]
TRIANGLES = "triangles"
TOY_EXAMPLES = 10_000
"""Points of a toy that stand for it where a finite set is needed; training draws are fresh."""


@dataclass(frozen=True)
class Dataset:
    """Examples of one split.

    Attributes:
        spec: the facts that decide a model's shape. With ``crop="random"`` the stored examples are
            larger than ``spec.shape``, which is what a model sees.
        examples: uint8 ``(N, C, H, W)``, possibly memory-mapped, or an index into such a map;
            float32 ``(N, D)`` for points.
        labels: ``(N,)`` int64, −1 where an example has none; or None.
        captions: one text an example; or None.
        fingerprint: changes when the examples, labels, split or transform do; not with the place.
        source: what was found, in words.
        broken: name and reason of each file that was skipped.
        warnings: what a user should know.
        split: ``train``, ``test`` or ``all``.
        counts: examples in ``train``, and in ``test`` apart from them.
        toy: the density of a toy; or None.
        manifold: the known manifold that the examples lie on; or None.
        names: file name of each example; or None.
        crop: how images became square.
        binarise: how images are made binary when they are drawn.
        channel_classes: labels of each colour channel where three pictures are stacked; else 0.
    """

    spec: DataSpec
    examples: Tensor
    labels: Tensor | None = None
    captions: list[str] | None = None
    fingerprint: str = ""
    source: str = ""
    broken: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    split: Split = "train"
    counts: dict[str, int] = field(default_factory=dict)
    toy: Toy | None = None
    manifold: Triangles | None = None
    names: list[str] | None = None
    crop: Crop = "centre"
    binarise: Binarise = "none"
    channel_classes: int = 0

    def __len__(self) -> int:
        return self.examples.shape[0]

    @property
    def margin(self) -> tuple[int, int]:
        """Rows and columns that a random crop can move in."""
        if self.spec.kind == "points":
            return 0, 0
        stored, seen = self.examples.shape[2:], self.spec.shape[1:]
        return stored[0] - seen[0], stored[1] - seen[1]

    def images(self, indices: Tensor | slice) -> Tensor:
        """Rows as a model sees them, ``(n, *spec.shape)``: uint8 (central crop) or points."""
        rows = self.examples[indices]
        top, left = (edge // 2 for edge in self.margin)
        if self.margin == (0, 0):
            return rows
        height, width = self.spec.shape[1:]
        return rows[:, :, top : top + height, left : left + width]


def open_dataset(
    spec: str,
    *,
    size: int | Literal["native"] = "native",
    split: Split | None = None,
    crop: Crop = "centre",
    holdout: float = 0.05,
    binarise: Binarise = "none",
    without: Sequence[int] = (),
    download: bool = False,
    strict: bool = False,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open the data that a SPEC names.

    Args:
        spec: the data SPEC.
        size: edge of the images in pixels, or ``native`` for a set that has one size.
        split: which part; None takes the SPEC's own ``@`` suffix, or ``train``.
        crop: how images become square when ``size`` is given: ``none`` squeezes them, ``centre``
            cuts the largest central square, ``random`` keeps a margin of one eighth around ``size``
            and the loader draws a window for every example.
        holdout: share kept for evaluation, by content, where the data has no test part of its own.
        binarise: how images become black and white.
        without: labels whose examples are left out; the other labels keep their numbers.
        download: fetch a named set that is not there.
        strict: refuse any broken file.
        limit: use the first so many examples only.
        progress: told how many files of how many are decoded.

    Raises:
        UsageError: a malformed SPEC or options that contradict each other.
        DataError: missing, empty, broken or unfitting data.
    """
    source = parse_spec(spec)
    wanted: Split = split or source.split or "train"
    _check_options(spec, size, crop, holdout, limit)
    if source.kind == "toy" and source.toy != TRIANGLES:
        return _open_toy(source, wanted, binarise, limit, without)
    if source.inner is not None:
        inner = open_dataset(
            source.inner.text,
            size=size,
            split=wanted,
            crop=crop,
            holdout=holdout,
            binarise=binarise,
            download=download,
            strict=strict,
            progress=progress,
            without=without,
        )
        return _stacked(inner, spec, limit)
    table = read_table(source, Transform(size, crop), download, strict, progress)
    dataset = _select(table, spec, wanted, holdout, limit, without)
    shape = tuple(dataset.examples.shape[1:])
    if dataset.spec.kind == "points":
        if binarise != "none":
            raise UsageError(spec, "points cannot be binarised", "--set data.binarise=none")
        crop = "none"
    elif size != "native":
        shape = (shape[0], size, size)
    levels = dataset.spec.levels if binarise == "none" else 2
    dataset = replace(
        dataset,
        spec=replace(dataset.spec, shape=shape, levels=levels),
        crop=crop,
        binarise=binarise,
        manifold=_manifold(source, shape, crop, binarise),
        fingerprint=_fingerprint(dataset, table, f"{shape}|{size}|{crop}|{binarise}"),
    )
    return drawn_once(dataset) if binarise == "fixed" else dataset


def drawn_once(dataset: Dataset) -> Dataset:
    """Bernoulli draws of grey/255 with seed 0, as 0 and 255: the ``fixed`` binarisation.

    The draw of row i depends on the split and on i alone: a smaller ``limit`` keeps its rows.
    """
    blocks = []
    for start in range(0, len(dataset), 4096):
        rows = dataset.examples[start : start + 4096]
        blocks.append(
            draw_binary(rows, RandomStream(0, "binarise", dataset.split, first_row=start))
        )
    return replace(dataset, examples=torch.cat(blocks), binarise="fixed")


def draw_binary(images: Tensor, rng: RandomStream) -> Tensor:
    """uint8 grey → uint8 0 or 255 with probability grey/255 of the latter."""
    return rng.bernoulli(images.to(torch.float32) / 255.0).to(torch.uint8).mul_(255)


def _check_options(
    spec: str, size: int | str, crop: Crop, holdout: float, limit: int | None
) -> None:
    if size != "native" and (not isinstance(size, int) or not 1 <= size <= 8192):
        raise UsageError(f"data.size={size}", "expected native or 1 to 8192 pixels", "")
    if crop == "random" and size == "native":
        raise UsageError("data.crop=random", "needs a size to crop to", "--set data.size=64")
    if not 0.0 <= holdout < 1.0:
        raise UsageError(f"data.holdout={holdout}", "expected a share from 0 to below 1", "")
    if limit is not None and limit < 1:
        raise UsageError(spec, f"a limit of {limit} examples leaves none", "give at least 1")


def _open_toy(
    source: DataSource, split: Split, binarise: Binarise, limit: int | None, without: Sequence[int]
) -> Dataset:
    if binarise != "none":
        raise UsageError(source.text, "points cannot be binarised", "--set data.binarise=none")
    if without:
        raise UsageError(source.text, "has no labels, and data.without names some", "leave it out")
    toy = make_toy(source.toy, source.options)
    settings = ", ".join(f"{key} {value:g}" for key, value in toy.settings.items())
    count = TOY_EXAMPLES if limit is None else min(limit, TOY_EXAMPLES)
    return Dataset(
        spec=DataSpec("points", (toy.dimensions,), levels=0),
        examples=toy.draw(count, RandomStream(0, "toy", split)),
        fingerprint=f"{seed_of('toy', toy.name, settings):016x}",
        source=f"toy {toy.name} ({settings}), drawn afresh for every batch",
        split=split,
        counts={"train": count, "test": count},
        toy=toy,
    )


def _manifold(
    source: DataSource, shape: tuple[int, ...], crop: Crop, binarise: Binarise
) -> Triangles | None:
    """What is known of where the examples lie; binarised or enlarged ones lie elsewhere."""
    if source.toy != TRIANGLES or crop == "random" or binarise != "none":
        return None
    return make_triangles(source.options, shape[-1])


def _kept(labels: np.ndarray | None, total: int, without: Sequence[int], spec: str) -> np.ndarray:
    """``(N,)`` bool: whose label is not left out.

    Raises:
        UsageError: there are no labels, or no example has one of those that are left out.
    """
    if not without:
        return np.ones(total, dtype=bool)
    if labels is None:
        raise UsageError(spec, "has no labels, and data.without names some", "leave it out")
    strange = sorted(set(without) - set(np.unique(labels[labels >= 0]).tolist()))
    if strange:
        reason = f"data.without names {strange[0]}, and the labels are 0 to {labels.max()}"
        raise UsageError(spec, reason, "data.without=[3] leaves out what has label 3")
    return ~np.isin(labels, list(without))


def _stacked(dataset: Dataset, spec: str, limit: int | None) -> Dataset:
    """Three pictures of a grey set as the channels of one, with the triple of their labels."""
    if dataset.spec.kind != "image" or dataset.spec.shape[0] != 1:
        raise DataError(spec, f"examples of {dataset.spec.shape}", "stack a set of grey pictures")
    if dataset.labels is None:
        raise DataError(spec, "has no labels, so triples have no kind", "stack a labelled set")
    classes = dataset.spec.classes
    if classes**3 > MAX_CLASSES:
        raise DataError(spec, f"{classes} labels make {classes**3:,} triples, too many", "")
    labelled = (dataset.labels >= 0).nonzero()[:, 0]
    if not len(labelled):
        raise DataError(spec, f"no picture of its {dataset.split} part has a label", "")
    whole = len(labelled) == len(dataset)
    pictures = dataset.examples if whole else dataset.examples[labelled]
    count = count_of(pictures)
    examples, labels = triples(
        pictures,
        dataset.labels[labelled],
        classes,
        count if limit is None else min(limit, count),
        RandomStream(0, "stacked", dataset.split),
    )
    shape = (3, *dataset.spec.shape[1:])
    return replace(
        dataset,
        spec=replace(dataset.spec, shape=shape, classes=classes**3, class_names=()),
        examples=examples,
        labels=labels,
        captions=None,
        names=None,
        fingerprint=f"{seed_of('stacked', dataset.fingerprint, len(examples)):016x}",
        source=f"{count:,} triples, stacked as colours, of {dataset.source}",
        counts={part: n and max(n, count) for part, n in dataset.counts.items()},
        channel_classes=classes,
    )


def _select(
    table: Table,
    spec: str,
    split: Split,
    holdout: float,
    limit: int | None,
    without: Sequence[int] = (),
) -> Dataset:
    """The rows of one split."""
    total = len(table.examples)
    test = table.test if table.test is not None else table.position < holdout
    kept = _kept(table.labels, total, without, spec)
    test_rows, train_rows = np.flatnonzero(test & kept), np.flatnonzero(~test & kept)
    notes, apart = list(table.warnings), len(test_rows)
    if total == 1:
        notes.append("only one image: a model can only learn it by heart")
    if len(train_rows) == 0 and split == "train":
        notes.append("every example fell to the held-out part: all are used for training too")
        train_rows, apart = np.flatnonzero(kept), 0
    rows = {"train": train_rows, "test": test_rows, "all": np.flatnonzero(kept)}[split]
    if len(rows) == 0:
        reason = f"none of its {total:,} examples belongs to the {split} part"
        raise DataError(spec, reason, "use @all, or raise the share: --set data.holdout=0.2")
    rows = rows[:limit]
    labels, names, captions = table.labels, table.names, table.captions
    if labels is not None:
        classes = max(len(table.class_names), int(labels.max()) + 1)
    return Dataset(
        spec=DataSpec(
            table.kind,
            tuple(table.examples.shape[1:]),
            classes=classes if labels is not None else 0,
            class_names=table.class_names,
            levels=256 if table.kind == "image" else 0,
        ),
        examples=_rows(table.examples, rows),
        labels=None if labels is None else torch.from_numpy(labels[rows]),
        captions=None if captions is None else _texts(captions, rows),
        source=table.source,
        broken=list(table.broken),
        warnings=notes,
        split=split,
        counts={"train": len(train_rows), "test": apart},
        names=None if names is None else _texts(names, rows),
    )


def _rows(examples: np.ndarray, rows: np.ndarray) -> Tensor:
    """A memory-mapped set stays on disk: a view where the rows are consecutive, else an index."""
    where = _consecutive(rows)
    if where is None and not isinstance(examples, np.memmap):
        return torch.from_numpy(examples[rows])
    with warnings.catch_warnings():
        # A map of more than the memory is read-only. Nobody writes to the examples.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        stored = torch.from_numpy(examples if where is None else examples[where])
    return ChosenRows(stored, torch.from_numpy(rows)) if where is None else stored


def _texts(texts: list[str], rows: np.ndarray) -> list[str]:
    where = _consecutive(rows)
    return [texts[i] for i in rows] if where is None else texts[where]


def _consecutive(rows: np.ndarray) -> slice | None:
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else None


def _fingerprint(dataset: Dataset, table: Table, transform: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{transform}|{dataset.split}|{len(dataset)}|{dataset.spec.class_names}".encode())
    if table.hashes is not None:
        digest.update(table.hashes.tobytes().hex().encode())
        digest.update(repr(sorted(dataset.counts.items())).encode())
    else:
        digest.update(dataset.examples.numpy().data)
    if dataset.labels is not None:
        digest.update(dataset.labels.numpy().tobytes())
    for caption in dataset.captions or ():
        digest.update(caption.encode(errors="replace") + b"\0")
    return digest.hexdigest()
