"""Every source as one table of examples, before it is split."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from genctl.data import arrays, build
from genctl.data.archives import is_archive, open_archive
from genctl.data.arrays import Arrays
from genctl.data.decode import SUFFIXES, Crop
from genctl.data.decoding import FileSource, Progress, Transform
from genctl.data.folder import FolderSource
from genctl.data.labels import Naming, name_facts
from genctl.data.spec import DataSource
from genctl.data.triangles import make_triangles, read_triangles
from genctl.errors import DataError, UsageError

_CHUNK = 2048


@dataclass(frozen=True)
class Table:
    """All examples of a source.

    Attributes:
        kind: images or points.
        examples: uint8 ``(N, C, H, W)`` or float32 ``(N, D)``.
        position: ``(N,)`` each example's content hash as a number in [0, 1): small is held out.
        source: what was found, in words.
        labels: ``(N,)`` int64, or None.
        class_names: in label order.
        captions: one text an example, or None.
        test: ``(N,)`` bool, the official test part; None where there is none.
        names: file names, or None.
        broken: name and reason of skipped files.
        warnings: what a user should know.
        hashes: content hashes, one row an example, that stand for them in the fingerprint; or None.
    """

    kind: Literal["image", "points"]
    examples: np.ndarray
    position: np.ndarray
    source: str
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    captions: list[str] | None = None
    test: np.ndarray | None = None
    names: list[str] | None = None
    broken: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hashes: np.ndarray | None = None


def read_table(
    source: DataSource,
    transform: Transform,
    download: bool,
    strict: bool,
    progress: Progress | None,
) -> Table:
    """Read a source.

    Raises:
        DataError: missing, empty, broken or unfitting data.
        UsageError: a kind of data that is not read.
    """
    if source.kind == "digits":
        return _from_arrays(arrays.read_digits(), transform, "digits")
    if source.kind == "toy":
        edge = None if transform.size == "native" else transform.size
        found = read_triangles(make_triangles(source.options, edge))
        return _from_arrays(found, transform, source.text)
    path = source.path
    assert path is not None
    if source.kind in ("mnist", "fashion-mnist"):
        found = arrays.read_mnist_like(source.kind, path, download)
        return _from_arrays(found, transform, source.text)
    if source.kind in ("cifar10", "svhn"):
        found = arrays.read_torchvision(source.kind, path, download)
        return _from_arrays(found, transform, source.text)
    if source.kind == "celeba":
        return _celeba(source, transform, download, strict, progress)
    _check_path(path)
    if path.is_dir():
        return _from_files(FolderSource(path), str(path), transform, strict, progress)
    if path.suffix.lower() == ".npz":
        return _from_arrays(arrays.read_npz_examples(path), transform, source.text)
    if is_archive(path):
        return _from_files(open_archive(path), str(path), transform, strict, progress)
    arrays.refuse_unread(path)
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(str(path), "is a single file", "give the folder that holds the images")
    kind = "a file of an unknown kind"
    raise DataError(str(path), kind, "expected a folder, .zip, .tar or .npz")


def _from_files(
    source: FileSource,
    thing: str,
    transform: Transform,
    strict: bool,
    progress: Progress | None,
    official: Callable[[Sequence[str]], np.ndarray | None] | None = None,
) -> Table:
    """Decode (or find in the cache) the images of a folder or archive and read their names."""
    # To list an archive takes longer than to open the cache, and its key is its own state.
    listing = source.listing() if isinstance(source, FolderSource) else None

    def is_test(names: Sequence[str]) -> np.ndarray | None:
        return official(names) if official else name_facts(names, (), thing).test

    images, index, notes = build.decoded_files(
        source, listing, transform, thing, is_test=is_test, strict=strict, progress=progress
    )
    metadata = listing.metadata if listing is not None else index.metadata
    naming = (
        Naming(test=official(index.names)) if official else name_facts(index.names, metadata, thing)
    )
    if index.animated:
        notes.append(f"{len(index.animated):,} animated files: their first frame is used")
    if index.broken:
        notes.append(f"{len(index.broken):,} broken files were skipped")
    height, width = images.shape[2:]
    colour = "grey" if images.shape[1] == 1 else "colour"
    return Table(
        "image",
        images,
        _position(index.hashes),
        f"{len(images):,} {colour} images of {width} × {height} in {thing}",
        labels=naming.labels,
        class_names=naming.class_names,
        captions=naming.captions,
        test=naming.test,
        names=index.names,
        broken=index.broken,
        warnings=[*(listing.notes if listing is not None else index.notes), *naming.notes, *notes],
        hashes=index.hashes,
    )


def _from_arrays(found: Arrays, transform: Transform, thing: str) -> Table:
    """Hash the rows, then resize the images."""
    rows = found.images if found.images is not None else found.points
    assert rows is not None
    if len(rows) == 0:
        raise DataError(thing, "holds no example", "expected at least one")
    if found.test is not None:
        position = np.zeros(len(rows))  # an official test part needs no hash
    else:
        hashes = [
            hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(rows)
        ]
        position = _position(np.frombuffer(b"".join(hashes), np.uint8).reshape(len(rows), 8))
    if found.images is not None:
        examples = resize_all(found.images, transform.edge, transform.crop)
    else:
        examples = rows
    return Table(
        "image" if found.images is not None else "points",
        examples,
        position,
        found.source,
        labels=found.labels,
        class_names=found.class_names,
        test=found.test,
    )


def _position(hashes: np.ndarray) -> np.ndarray:
    """The first 8 bytes of each hash as a number in [0, 1)."""
    first = np.ascontiguousarray(hashes[:, :8]).view(">u8")[:, 0]
    return first.astype(np.float64) / 2.0**64


def resize_all(images: np.ndarray, edge: int | None, crop: Crop) -> np.ndarray:
    """uint8 ``(N, H, W, C)`` → ``(N, C, edge, edge)``, bicubic with antialiasing as for files."""
    planes = images.transpose(0, 3, 1, 2)
    height, width = planes.shape[2:]
    if crop != "none" and edge is not None and height != width:
        square = min(height, width)
        top, left = (height - square) // 2, (width - square) // 2
        planes = planes[:, :, top : top + square, left : left + square]
    if edge is None or planes.shape[2:] == (edge, edge):
        return np.ascontiguousarray(planes)
    blocks = []
    for start in range(0, len(planes), _CHUNK):
        # In uint8 torch rounds between the two passes exactly where Pillow does.
        block = torch.from_numpy(np.ascontiguousarray(planes[start : start + _CHUNK]))
        resized = F.interpolate(block, size=(edge, edge), mode="bicubic", antialias=True)
        blocks.append(resized.numpy())
    return np.concatenate(blocks)


def _celeba(
    source: DataSource,
    transform: Transform,
    download: bool,
    strict: bool,
    progress: Progress | None,
) -> Table:
    """CelebA's aligned faces as torchvision lays them out; parts by list_eval_partition.txt."""
    root = source.path
    assert root is not None
    if download:
        from torchvision import datasets

        try:
            datasets.CelebA(root, split="all", download=True)
        except (OSError, RuntimeError) as error:
            reason = f"download failed: {str(error).splitlines()[0]}"
            raise DataError(source.text, reason, "") from None
    base = root / "celeba" if (root / "celeba").is_dir() else root
    folder, partition = base / "img_align_celeba", base / "list_eval_partition.txt"
    if not folder.is_dir():
        raise DataError(source.text, f"{folder} is missing", "give its root, or add --download")
    parts: dict[str, str] = {}
    if partition.is_file():
        with open(partition, encoding="utf-8") as file:
            rows = csv.reader(file, delimiter=" ", skipinitialspace=True)
            parts = {row[0]: row[1] for row in rows if len(row) >= 2}

    def official(names: Sequence[str]) -> np.ndarray | None:
        # 0 is training; 1 (validation) and 2 (test) are both held out.
        return np.array([parts.get(name, "0") != "0" for name in names]) if parts else None

    return _from_files(FolderSource(folder), source.text, transform, strict, progress, official)


def _check_path(path: Path) -> None:
    try:
        if path.exists():
            return
        reason = "no such file or folder"
    except OSError as error:
        reason = error.strerror or str(error)
    raise DataError(
        str(path), reason, "check --data; `genctl data inspect SPEC` shows what is found"
    )
