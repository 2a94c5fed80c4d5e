"""Images in a zip or tar, read in place. Member names are labels: nothing is written by them.

A link inside an archive is not followed. An archive that declares to unpack to far more than its
own size is refused before it is decoded, and one member never gives more than ``MAX_BYTES``.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from genctl.data.decode import MAX_BYTES, BrokenImageError
from genctl.data.folder import METADATA, Listing, is_image_name
from genctl.errors import DataError

MAX_EXPANSION = 1000
"""Largest ratio of declared bytes to the archive's own, beyond the first GiB."""
MAX_METADATA_BYTES = 2**30
_DAMAGED = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


class ZipSource:
    """A zip of image files.

    Args:
        path: the archive.
    """

    sequential = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = _stamp(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise DataError(str(path), f"not a readable zip: {error}", "make it again") from None

    def listing(self) -> Listing:
        """Members that are images, by name; the last of two equal names wins, as in unzip."""
        found = Listing(total_bytes=self.path.stat().st_size)
        declared = 0
        for info in self._archive.infolist():
            declared += info.file_size
            name = info.filename
            if info.is_dir():
                continue
            if PurePosixPath(name).name.lower() in METADATA:
                found.metadata.append((name, self._text(info)))
            elif is_image_name(name):
                found.names.append(name)
            else:
                found.ignored[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
        _check_expansion(self.path, declared)
        found.names = sorted(set(found.names))
        return found

    def read(self, name: str) -> bytes:
        """The bytes of one member. Raises BrokenImageError with the reason."""
        try:
            info = self._archive.getinfo(name)
            if info.flag_bits & 1:
                raise BrokenImageError("encrypted")
            if info.file_size > MAX_BYTES:
                raise BrokenImageError(f"declares {info.file_size:,} bytes")
            with self._archive.open(info) as file:
                return file.read(MAX_BYTES + 1)
        except _DAMAGED as error:
            raise BrokenImageError(f"damaged in the archive: {error}") from None

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """All members in order, one after the other."""
        for name in names:
            yield name, self.read(name)

    def _text(self, info: zipfile.ZipInfo) -> str:
        try:
            if info.file_size > MAX_METADATA_BYTES:
                raise ValueError(f"declares {info.file_size:,} bytes")
            return self._archive.read(info).decode("utf-8-sig")
        except _DAMAGED as error:
            thing = f"{self.path}: {info.filename}"
            raise DataError(thing, f"cannot be read as UTF-8: {error}", "") from None


class TarSource:
    """A tar of image files, compressed or not; read from front to back, since it has no index.

    Args:
        path: the archive.
    """

    sequential = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = _stamp(path)

    def listing(self) -> Listing:
        """Members that are images. Reads through the whole archive once."""
        found = Listing(total_bytes=self.path.stat().st_size)
        declared = 0
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    declared += member.size
                    _check_expansion(self.path, declared)
                    if not member.isreg():
                        continue
                    name = member.name
                    if PurePosixPath(name).name.lower() in METADATA:
                        file = archive.extractfile(member)
                        if file is not None and member.size <= MAX_METADATA_BYTES:
                            found.metadata.append((name, file.read().decode("utf-8-sig")))
                    elif is_image_name(name):
                        found.names.append(name)
                    else:
                        found.ignored[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
        except _DAMAGED as error:
            raise DataError(
                str(self.path), f"not a readable tar: {error}", "make it again"
            ) from None
        found.names = sorted(set(found.names))
        return found

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """The wanted members in the archive's order, which needs no going back."""
        wanted = set(names)
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    if member.isreg() and member.name in wanted:
                        wanted.discard(member.name)
                        file = archive.extractfile(member)
                        yield member.name, b"" if file is None else file.read(MAX_BYTES + 1)
        except _DAMAGED as error:
            raise DataError(
                str(self.path), f"not a readable tar: {error}", "make it again"
            ) from None


def is_archive(path: Path) -> bool:
    """Whether a file is named like a zip or a tar."""
    name = path.name.lower()
    return name.endswith((".zip", *TAR_SUFFIXES))


def open_archive(path: Path) -> ZipSource | TarSource:
    """A source for a zip or a tar, by its content and not only by its name.

    Raises:
        DataError: it is neither.
    """
    if zipfile.is_zipfile(path):
        return ZipSource(path)
    try:
        if tarfile.is_tarfile(path):
            return TarSource(path)
    except _DAMAGED as error:
        raise DataError(str(path), f"cannot be read: {error}", "make it again") from None
    raise DataError(str(path), "neither a zip nor a tar, whatever its name", "make it again")


def _check_expansion(path: Path, declared: int) -> None:
    allowed = 2**30 + MAX_EXPANSION * path.stat().st_size
    if declared > allowed:
        reason = f"declares at least {declared:,} bytes, over {MAX_EXPANSION} times its own size"
        raise DataError(str(path), reason, "unpack it yourself if you trust it")


def _stamp(path: Path) -> str:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(str(path), error.strerror or str(error), "check the path") from None
    return f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"
