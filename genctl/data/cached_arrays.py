"""Arrays in the data cache, with the facts that say what they are: features, for instance.

An entry is a folder ``<key>/`` with ``<name>.npy`` for each array and ``index.json``: the facts and
the arrays' checksums. Like every entry it is whole or absent, and goes when it is the least
recently used and there is no more room.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from genctl.data import cache
from genctl.reading import read_limited

_LARGEST_INDEX = 2**24
_ROWS = 1024


def store(key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bool:
    """Write an entry; false where the cache has no room or cannot be written.

    Args:
        key: its name, which must be a plain file name.
        arrays: by name; plain numbers only.
        facts: what ``load`` must be asked with, plain values.
    """
    if sum(array.nbytes for array in arrays.values()) > cache.limit_bytes():
        return False
    try:
        with cache.writing(key) as folder:
            for name, array in arrays.items():
                with open(folder / f"{name}.npy", "wb") as file:
                    _write(file, array)
                    file.flush()
                    os.fsync(file.fileno())
            sums = {name: cache.checksums(folder / f"{name}.npy") for name in arrays}
            with open(folder / "index.json", "w", encoding="utf-8") as index:
                json.dump({"facts": dict(facts), "checksums": sums}, index)
                index.flush()
                os.fsync(index.fileno())
    except OSError:
        return False
    return True


def load(key: str, facts: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays of an entry, memory-mapped; None where there is none, or not of these facts.

    A damaged entry is removed.
    """
    folder = cache.cache_folder() / key
    if not folder.is_dir():
        return None
    try:
        node = json.loads(read_limited(folder / "index.json", _LARGEST_INDEX))
        if node["facts"] != json.loads(json.dumps(dict(facts))):
            return None
        arrays = {}
        for name, sums in node["checksums"].items():
            path = folder / f"{name}.npy"
            if path.parent != folder or not cache.intact(path, sums):
                raise ValueError("checksums differ")
            arrays[name] = cache.mapped(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RecursionError):
        cache.remove(key)
        return None
    with contextlib.suppress(OSError):  # a read-only cache is still a cache
        os.utime(folder / "index.json")
    return arrays


def _write(file: IO[bytes], array: np.ndarray) -> None:
    """As ``np.save`` does, but an array that is mapped itself comes in block by block."""
    np.lib.format.write_array_header_1_0(
        file,
        {
            "descr": np.lib.format.dtype_to_descr(array.dtype),
            "fortran_order": False,
            "shape": array.shape,
        },
    )
    for start in range(0, len(array), _ROWS):
        file.write(np.ascontiguousarray(array[start : start + _ROWS]).data)
        cache.forget(array)
