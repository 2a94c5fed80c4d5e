"""Sources that are arrays already: npz files, the embedded digits, ubyte files, torchvision.

Every reader returns ``Arrays``: uint8 images ``(N, H, W, C)`` or float points, and labels.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from genctl.data.decode import flatten_alpha
from genctl.data.limits import MAX_CLASSES, physical_memory
from genctl.errors import DataError, UsageError
from genctl.printable import printable

MAX_ARRAY_BYTES = 64 * 2**30
"""Bytes that one array of an .npz may unpack to, if the machine has twice as many."""
MAX_NPY_HEADER = 10_000
MAX_IDX_BYTES = 2**31
_CHUNK = 2**24
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,  # NumPy reads headers of Python 2 as Python source
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
_KEYS = ("images", "labels", "points", "features", "probabilities")
_FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_CLOTHES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True)
class Arrays:
    """Examples of an array source, in their original order.

    Attributes:
        source: what was found, in words.
        images: ``(N, H, W, C)`` uint8 with 1 or 3 channels, or None.
        points: ``(N, D)`` float32, or None.
        labels: ``(N,)`` int64, or None.
        class_names: names in label order.
        test: ``(N,)`` bool, true for the official test part; None where there is none.
    """

    source: str
    images: np.ndarray | None = None
    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    test: np.ndarray | None = None


def read_digits() -> Arrays:
    """scikit-learn's embedded digits: 1,797 real 8 × 8 images, 0 … 16 scaled to 0 … 255."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    names = tuple(str(k) for k in range(10))
    return Arrays(
        f"{len(images):,} handwritten digits of scikit-learn",
        images=images,
        labels=found.target.astype(np.int64),
        class_names=names,
    )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz that genctl knows, checked.

    They are images, labels, points, features and probabilities. Features ``(N, D)``
    and probabilities ``(N, K)`` are for ``evaluate``. Nothing is unpickled.

    Raises:
        DataError: missing, damaged, none of the names, or a wrong type or shape.
    """
    wanted = f"expected {', '.join(_KEYS)}"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            arrays = {key: _member(archive, path, key) for key in _KEYS if key in names}
    except _DAMAGED as error:
        reason = printable(error) or type(error).__name__
        raise DataError(str(path), f"not a readable .npz: {reason}", wanted) from None
    if not set(arrays) - {"labels"}:
        found = printable(", ".join(names[:20])) or "no array"
        raise DataError(str(path), f"holds {found}", wanted)
    return {key: _checked(path, key, array) for key, array in arrays.items()}


def _member(archive: zipfile.ZipFile, path: Path, key: str) -> np.ndarray:
    """One array, after its header was held against what the file really has."""
    name = f"{key}.npy" if f"{key}.npy" in archive.namelist() else key
    info = archive.getinfo(name)
    if info.file_size > min(MAX_ARRAY_BYTES, physical_memory() // 2):
        raise DataError(str(path), f"{name} unpacks to {info.file_size:,} bytes", "split the file")
    with archive.open(info) as file:
        shape, dtype = _npy_header(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never unpickled")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > info.file_size:
        raise ValueError(f"{name} declares {dtype} {shape} in {info.file_size:,} bytes")
    if dtype.kind == "f" and dtype.itemsize not in (2, 4, 8):
        raise DataError(str(path), f"{name} is {dtype}", "expected floats of 16, 32 or 64 bits")
    with archive.open(info) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for names of fields, which none of ours has
        raise ValueError(f"an array of format {version}, expected (1, 0)")
    width = file.read(2 * version[0])
    length = int.from_bytes(width, "little")
    if length > MAX_NPY_HEADER:
        raise ValueError(f"a header of {length:,} bytes, more than {MAX_NPY_HEADER:,}")
    header = io.BytesIO(width + file.read(length))
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(header)
    if any(edge < 0 for edge in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, dtype


def read_npz_examples(path: Path) -> Arrays:
    """An .npz of ``images`` (and ``labels``) or ``points`` as a data set.

    Raises:
        DataError: it holds neither, or labels of another length.
    """
    arrays = read_npz(path)
    images, points, labels = (arrays.get(key) for key in ("images", "points", "labels"))
    if images is None and points is None:
        raise DataError(
            str(path),
            f"holds {', '.join(arrays)} and neither images nor points",
            "features and probabilities are for `genctl evaluate`",
        )
    examples = images if images is not None else points
    assert examples is not None
    if labels is not None and len(labels) != len(examples):
        raise DataError(str(path), f"{len(labels)} labels for {len(examples)} examples", "")
    if images is not None:
        height, width, channels = images.shape[1:]
        text = f"{len(images):,} images of {width} × {height}, {channels} channels, in an .npz"
        return Arrays(text, images=images, labels=labels)
    return Arrays(f"{len(examples):,} points in an .npz", points=points, labels=labels)


def read_mnist_like(name: str, root: Path, download: bool = False) -> Arrays:
    """MNIST or Fashion-MNIST from their ubyte files, gzipped or not; train first, then test.

    Args:
        name: ``mnist`` or ``fashion-mnist``.
        root: the files lie in ``root/<NAME>/raw``, ``root/raw`` or ``root``.
        download: fetch missing files through torchvision.

    Raises:
        DataError: files missing or damaged.
    """
    folder = _FOLDERS[name]
    parts = []
    for part in ("train", "t10k"):
        pair = [_find(root, folder, f"{part}-{kind}") for kind in _IDX]
        if None in pair and download:
            _download(folder, root)
            pair = [_find(root, folder, f"{part}-{kind}") for kind in _IDX]
        if pair[0] is None or pair[1] is None:
            missing = f"{part}-{_IDX[0]}" if pair[0] is None else f"{part}-{_IDX[1]}"
            raise DataError(
                f"{name}:{root}",
                f"{missing} (or .gz) was found neither in {folder}/raw, raw nor the folder itself",
                "give the folder that holds it, or add --download",
            )
        images, labels = read_idx(pair[0]), read_idx(pair[1])
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(
                str(pair[0]),
                f"images {images.shape}, labels {labels.shape}",
                "expected (N, H, W) and (N,)",
            )
        parts.append((images, labels))
    (train, train_labels), (test, test_labels) = parts
    labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
    names = tuple(str(k) for k in range(10)) if name == "mnist" else _CLOTHES
    return Arrays(
        f"{name}: {len(train):,} training and {len(test):,} test images",
        images=np.concatenate([train, test])[..., None],
        labels=labels,
        class_names=names if labels.size and labels.max() < 10 else (),
        test=np.arange(len(labels)) >= len(train),
    )


_IDX = ("images-idx3-ubyte", "labels-idx1-ubyte")


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist), gzipped or not.

    Raises:
        DataError: unreadable, of another type, shorter or longer than its header says.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                raise DataError(
                    str(path), f"starts with {magic!r}", "expected an IDX file of bytes"
                )
            shape = struct.unpack(f">{magic[3]}I", file.read(4 * magic[3]))
            count = int(np.prod(shape, dtype=object))
            if max(count, *shape) > MAX_IDX_BYTES:
                declared = " × ".join(f"{size:,}" for size in shape)
                raise DataError(str(path), f"declares {declared} bytes", "the header is damaged")
            data = _at_most(file, count + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        reason = f"cannot be read: {printable(error)}"
        raise DataError(str(path), reason, "fetch the file again") from None
    if len(data) != count:
        found = f"{len(data):,}" if len(data) < count else "more"
        raise DataError(str(path), f"expected {count:,} bytes, found {found}", "fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _at_most(file: gzip.GzipFile | io.BufferedReader, count: int) -> bytearray:
    """Up to ``count`` bytes; memory grows with what is there, not with what was promised."""
    data = bytearray()
    while len(data) < count and (part := file.read(min(_CHUNK, count - len(data)))):
        data += part
    return data


def read_torchvision(name: str, root: Path, download: bool = False) -> Arrays:
    """CIFAR-10 or SVHN through torchvision, which checks the files' MD5 before it opens them.

    Raises:
        DataError: files missing or damaged.
    """
    from torchvision import datasets

    try:
        if name == "cifar10":
            pair = [datasets.CIFAR10(root, train=part, download=download) for part in (True, False)]
            images = np.concatenate([part.data for part in pair])
            labels = np.concatenate([np.asarray(part.targets) for part in pair])
            names = tuple(pair[0].classes)
        else:
            pair = [
                datasets.SVHN(root, split=part, download=download) for part in ("train", "test")
            ]
            images = np.concatenate([part.data for part in pair]).transpose(0, 2, 3, 1)
            labels = np.concatenate([part.labels for part in pair])
            names = tuple(str(k) for k in range(10))
    except (OSError, RuntimeError, ValueError) as error:
        # torchvision reports missing and damaged files as RuntimeError.
        reason = str(error).splitlines()[0]
        remedy = "give the folder torchvision wrote it to, or add --download"
        raise DataError(f"{name}:{root}", reason, remedy) from None
    sizes = [len(part.data) for part in pair]
    return Arrays(
        f"{name}: {sizes[0]:,} training and {sizes[1]:,} test images",
        images=np.ascontiguousarray(images),
        labels=labels.astype(np.int64),
        class_names=names,
        test=np.arange(sum(sizes)) >= sizes[0],
    )


def _find(root: Path, folder: str, stem: str) -> Path | None:
    """The first of the usual places; some unpackers write a dot where the original has a dash."""
    for place in (root / folder / "raw", root / "raw", root / folder, root):
        for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx")):
            if (place / name).is_file():
                return place / name
    return None


def _download(folder: str, root: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, folder)(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{folder} in {root}", f"download failed: {reason}", "") from None


def _checked(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    found = f"{key} is {printable(array.dtype)} {array.shape}"
    if key == "images":
        if array.ndim == 3:
            array = array[..., None]
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3, 4):
            raise DataError(str(path), found, "expected uint8 (N, H, W, C), 0 … 255, C 1, 3 or 4")
        if 0 in array.shape[1:3]:
            raise DataError(str(path), found, "expected images of at least one pixel")
        return flatten_alpha(array) if array.shape[3] == 4 else array
    if key == "labels":
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(str(path), found, "expected integers (N,)")
        if array.size and array.min() < -1:
            raise DataError(
                str(path), f"labels go down to {array.min()}", "expected 0 … K−1, or −1"
            )
        if array.size and array.max() >= MAX_CLASSES:
            reason = f"labels go up to {array.max()}, and {MAX_CLASSES:,} classes are the most"
            raise DataError(str(path), reason, "number the classes from 0")
        return array.astype(np.int64)
    if array.ndim == 1 and key == "points":
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape[1:]:
        raise DataError(str(path), found, "expected floats (N, D)")
    if key == "points":
        if not np.isfinite(array).all():
            raise DataError(str(path), "points holds NaN or infinity", "expected finite numbers")
        return array.astype(np.float32)
    return array


def refuse_unread(path: Path) -> None:
    """Say so where a path is of a kind that genctl does not read (yet).

    Raises:
        UsageError: sound, video, or a single image given as a data set.
    """
    suffix = path.suffix.lower()
    kinds = {
        "sound": (".wav", ".flac", ".mp3", ".ogg"),
        "video": (".mp4", ".avi", ".mov", ".mkv", ".webm"),
    }
    for kind, suffixes in kinds.items():
        if suffix in suffixes:
            raise UsageError(str(path), f"{kind} is not read yet", "expected images")
