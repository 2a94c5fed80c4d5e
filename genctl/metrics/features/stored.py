"""Features or class probabilities that the user already has, in an ``.npz``."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from genctl.data.arrays import read_npz
from genctl.errors import DataError
from genctl.metrics.features.extractor import DTYPES, require_finite
from genctl.metrics.inception_score import log_of
from genctl.metrics.measure import Array, Features
from genctl.printable import printable

NAMES = ("features", "probabilities")
TOLERANCE = 1e-3
"""How far a row of probabilities may sum from 1: they are often stored as float32 or rounded."""

LARGEST_TEXT = 1024
"""Bytes that the array of one word may take."""
LARGEST_PROTOCOL = 2**16
"""Bytes that an extractor's protocol may take, four for a character."""

_DAMAGED = (OSError, ValueError, LookupError, ArithmeticError, RuntimeError, struct.error)


def arrays_in(path: Path) -> list[str]:
    """The names of the arrays in an npz; empty for anything else."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (*_DAMAGED, zipfile.BadZipFile):
        return []  # the data room says what is wrong with it


def read(path: Path) -> Features:
    """Read them.

    Raises:
        DataError: wrong shapes or types, rows that are not finite or not probabilities.
    """
    found = read_npz(path)
    arrays = {name: found[name] for name in NAMES if name in found}
    if not arrays:
        raise DataError(str(path), f"holds {', '.join(found)}", f"expected {' or '.join(NAMES)}")
    for name, array in arrays.items():
        if not len(array):
            raise DataError(str(path), f"`{name}` has no rows", "store at least one example")
        require_finite(array, f"{path}: `{name}`")
    if len({len(array) for array in arrays.values()}) > 1:
        raise DataError(str(path), "`features` and `probabilities` differ in length", "")
    probabilities = arrays.get("probabilities")
    if probabilities is None:
        return Features(arrays["features"])
    _check_probabilities(probabilities, path)
    return Features(arrays.get("features"), log_of(probabilities))


def precision_of(path: Path) -> str | None:
    """The number format in which the stored features were computed; None where it is not said.

    It is the text ``precision`` in the npz: ``np.savez(path, features=…, precision="bf16")``.

    Raises:
        DataError: it is said, but is none that features are computed in.
    """
    said = _text(path, "precision", LARGEST_TEXT)
    if said is None:
        return None
    if said not in DTYPES:
        names = " or ".join(DTYPES)
        raise DataError(str(path), f"`precision` is {printable(said)!r}", f"store {names}, or none")
    return said


def protocol_of(path: Path) -> dict[str, Any]:
    """Whose features these are, as ``data cache --statistics --out`` wrote it; empty: not said.

    Raises:
        DataError: it is said, but cannot be read.
    """
    text = _text(path, "protocol", LARGEST_PROTOCOL)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(str(path), f"`protocol` is not readable: {printable(error)}") from None
    if not isinstance(found, dict) or not isinstance(found.get("data", {}), dict):
        raise DataError(str(path), "`protocol` is no JSON object of an extractor's protocol")
    return found


def numbers_of(path: Path, count: int) -> Array | None:
    """Which rows of their data these are, as ``data cache --statistics --out`` wrote it.

    Raises:
        DataError: it is said, but not by one whole number for each row.
    """
    found = _small(path, "rows", 8 * count + LARGEST_TEXT)
    if found is None:
        return None
    if found.shape != (count,) or found.dtype.kind not in "iu":
        reason = f"`rows` is {found.dtype} of shape {found.shape}"
        raise DataError(str(path), reason, f"expected {count} whole numbers, or leave it out")
    return found.astype(np.int64)


def _text(path: Path, name: str, most: int) -> str | None:
    found = _small(path, name, most)
    return None if found is None else str(found)


def _small(path: Path, name: str, most: int) -> Array | None:
    """An array of at most so many bytes, None where there is none of this name."""
    if name not in arrays_in(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > most:
                raise ValueError(f"{info.file_size:,} bytes, at most {most:,} are expected")
            with archive.open(info) as file:
                found: Array = np.lib.format.read_array(file, allow_pickle=False)
                return found
    except (*_DAMAGED, zipfile.BadZipFile, MemoryError) as error:
        raise DataError(str(path), f"`{name}` is not readable: {printable(error)}") from None


def _check_probabilities(values: Array, path: Path) -> None:
    worst = float(np.abs(values.astype(np.float64).sum(axis=1) - 1.0).max())
    if values.min() < 0 or worst > TOLERANCE:
        raise DataError(
            str(path),
            f"`probabilities` are none: smallest {values.min():.3g}, row sums off by {worst:.3g}",
            "store softmax outputs, not logits",
        )
