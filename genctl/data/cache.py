"""Decoded images on disk, so that a folder is decoded once.

An entry is a folder ``<key>/`` in the cache folder with ``images.npy`` (uint8 ``(N, C, H, W)``),
``rows.npz`` (name and content hash of each row, as arrays, so that a million rows open at once) and
``index.json`` (broken files, checksums and the like). It is written under a temporary name and
renamed, so it is whole or absent; a lock of the operating system keeps two processes from doing the
same work; a damaged entry is found by its checksums and removed. The least recently used entries go
when the total passes the limit. Nothing here is unpickled.

Images are always memory-mapped: runs and ranks of one machine share one copy in the page cache, and
a set larger than memory streams.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import mmap
import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

VERSION = 2
"""Part of every key: raise it when decoding or the layout changes."""
HASH_BYTES = 16
"""Length of a content hash."""
DEFAULT_LIMIT_GIB = 20.0
_BLOCK = 2**20
_CHECKED_BLOCKS = 512


@dataclass
class Index:
    """What an entry knows about its images, row by row.

    Attributes:
        names: relative file name of each row.
        hashes: ``(N, HASH_BYTES)`` uint8 content hash of each row's file; rows are sorted by it.
        broken: name and reason of each file that could not be used.
        animated: names of files whose first frame was taken.
        metadata: metadata files of an archive, name and text.
        notes: remarks of the listing.
        ignored: files that were not looked at, by suffix.
    """

    names: list[str]
    hashes: np.ndarray
    broken: list[tuple[str, str]] = field(default_factory=list)
    animated: list[str] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)


def cache_folder() -> Path:
    """``GENCTL_CACHE``, else ``XDG_CACHE_HOME/genctl``, else ``~/.cache/genctl``; then ``data``.

    A user without a home, as in some containers, has a cache that nothing can be written to.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get("GENCTL_CACHE") or f"{base}/genctl"
    folder = os.path.expanduser(chosen)
    return Path(os.devnull, folder) if folder.startswith("~") else Path(folder, "data")


def limit_bytes() -> int:
    """The bound on the cache: ``GENCTL_CACHE_GIB`` or 20 GiB."""
    try:
        gib = float(os.environ.get("GENCTL_CACHE_GIB", DEFAULT_LIMIT_GIB))
    except ValueError:
        gib = DEFAULT_LIMIT_GIB
    return int(max(0.0, gib) * 2**30)


def load(key: str) -> tuple[np.ndarray, Index] | None:
    """The entry of ``key``, or None where there is none or it was damaged (and is now gone)."""
    folder = cache_folder() / key
    if not folder.is_dir():
        return None
    try:
        node = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        path = folder / "images.npy"
        images = mapped(path)
        if images.dtype != np.uint8 or list(images.shape) != node["shape"]:
            raise ValueError("images.npy does not fit its index")
        if not intact(path, node["checksums"]):
            raise ValueError("checksums differ")
        index = _read_index(folder, node["index"])
        if len(index.names) != len(images) or index.hashes.shape != (len(images), HASH_BYTES):
            raise ValueError("the index has another length")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        _remove(folder)
        return None
    with contextlib.suppress(OSError):  # a read-only cache is still a cache
        os.utime(folder / "index.json")
    return images, index


def store(key: str, images: Iterator[np.ndarray], shape: tuple[int, ...], index: Index) -> None:
    """Write an entry from blocks of rows; whole or not at all.

    Raises:
        OSError: no room, or the folder cannot be written. Nothing is left behind.
    """
    with writing(key) as temporary:
        if math.prod(shape) > shutil.disk_usage(temporary).free:  # not only after filling it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
        path = temporary / "images.npy"
        with open(path, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for block in images:
                file.write(np.ascontiguousarray(block).data)
            file.flush()
            os.fsync(file.fileno())
        _write_index(temporary, index, {"shape": list(shape), "checksums": checksums(path)})


@contextlib.contextmanager
def writing(key: str) -> Iterator[Path]:
    """A folder to write into, which becomes the entry of ``key`` if the block ends well.

    It must then hold ``index.json``, whose time says when the entry was last used.

    Raises:
        OSError: no room, or the folder cannot be written. Nothing is left behind.
    """
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".tmp-{key}-{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        yield temporary
        _remove(root / key)
        os.rename(temporary, root / key)
    except BaseException:
        _remove(temporary)
        raise
    _shrink(keep=key)


@contextlib.contextmanager
def building(key: str) -> Iterator[Path | None]:
    """Hold the lock of an entry while it is built; yields a scratch folder, or None.

    None means that the cache folder cannot be written. The lock is the operating system's: it goes
    with its owner, however that ends. What dead builders of this entry left is removed.
    """
    root = cache_folder()
    scratch = root / f".tmp-{key}-build"
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A few shared lock files that are never removed: removing one would let two owners in.
        lock = open(root / f".lock-{key[0]}", "a")  # noqa: SIM115 - closed below, with the lock
    except OSError:
        yield None
        return
    with lock:
        _lock(lock.fileno())
        for rest in root.glob(f".tmp-{key}-*"):
            _remove(rest)
        try:
            scratch.mkdir()
        except OSError:
            yield None
            return
        try:
            yield scratch
        finally:
            _remove(scratch)


def cache_info() -> dict[str, Any]:
    """Where the cache is, its bound and its entries, most recently used first."""
    found = _entries()
    entries = [
        {"key": folder.name, "bytes": size, "last_used": used}
        for folder, size, used in sorted(found, key=lambda entry: -entry[2])
    ]
    return {
        "folder": str(cache_folder()),
        "limit_bytes": limit_bytes(),
        "bytes": sum(size for _, size, _ in found),
        "entries": entries,
    }


def clear_cache() -> int:
    """Remove every entry; returns the bytes freed. A run that has one mapped keeps it."""
    freed = 0
    for folder, size, _ in _entries():
        _remove(folder)
        freed += 0 if folder.exists() else size
    return freed


def _entries() -> list[tuple[Path, int, float]]:
    """Folder, bytes and time of last use of every entry."""
    found = []
    try:
        folders = [path for path in cache_folder().iterdir() if not path.name.startswith(".")]
    except OSError:
        return []
    for folder in folders:
        try:
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append((folder, size, (folder / "index.json").stat().st_mtime))
        except OSError:
            continue
    return found


def _shrink(keep: str) -> None:
    entries = sorted(_entries(), key=lambda entry: entry[2])
    total = sum(size for _, size, _ in entries)
    for folder, size, _ in entries:
        if total <= limit_bytes():
            return
        if folder.name != keep:
            _remove(folder)
            total -= size


def remove(key: str) -> None:
    """Remove an entry, a damaged one say."""
    _remove(cache_folder() / key)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def checksums(path: Path) -> list[int]:
    """A CRC-32 for every block of a file."""
    sums = []
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            sums.append(zlib.crc32(block))
    return sums


def intact(path: Path, checksums: list[int]) -> bool:
    """Every block of a small file; of a large one the ends and an even choice between them."""
    size = path.stat().st_size
    count = -(-size // _BLOCK)
    if count != len(checksums):
        return False
    chosen = np.unique(np.linspace(0, count - 1, min(count, _CHECKED_BLOCKS)).astype(int))
    with open(path, "rb") as file:
        for number in chosen.tolist():
            file.seek(number * _BLOCK)
            if zlib.crc32(file.read(_BLOCK)) != checksums[number]:
                return False
    return True


def mapped(path: Path) -> np.ndarray:
    """The array of an .npy file; its pages come in when they are touched."""
    try:
        # Private: who writes to it changes a copy.
        return cast(np.ndarray, np.load(path, mmap_mode="c", allow_pickle=False))
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        # A system reserves memory for what may be written, and refuses more than it has.
        return cast(np.ndarray, np.load(path, mmap_mode="r", allow_pickle=False))


def forget(array: np.ndarray) -> None:
    """Let go of what was read of a mapped array; it is read again when it is touched.

    Else every page that was looked at once would count as memory of this process.
    """
    pages: Any = getattr(array, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _write_index(folder: Path, index: Index, node: dict[str, Any]) -> None:
    facts = {key: value for key, value in vars(index).items() if key not in ("names", "hashes")}
    with open(folder / "rows.npz", "wb") as file:
        # No file name holds a zero byte; a surrogate stands for a byte that is not UTF-8.
        names = "\0".join(index.names).encode(errors="surrogatepass")
        np.savez(file, names=np.frombuffer(names, np.uint8), hashes=index.hashes)
        file.flush()
        os.fsync(file.fileno())
    with open(folder / "index.json", "w", encoding="utf-8") as file_of_text:
        json.dump({**node, "index": facts}, file_of_text)
        file_of_text.flush()
        os.fsync(file_of_text.fileno())


def _read_index(folder: Path, facts: dict[str, Any]) -> Index:
    # The zip's own checksums are checked as its members are read.
    with np.load(folder / "rows.npz", allow_pickle=False) as rows:
        names, hashes = rows["names"], rows["hashes"]
    index = Index(names.tobytes().decode(errors="surrogatepass").split("\0"), hashes, **facts)
    index.broken = [(str(name), str(reason)) for name, reason in index.broken]
    index.metadata = [(str(name), str(text)) for name, text in index.metadata]
    return index


def _lock(descriptor: int) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        # Without locks (some network folders) two processes only do the same work twice.
        return
