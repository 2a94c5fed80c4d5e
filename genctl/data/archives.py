"""Images in a zip or tar, read in place. Member names are labels: nothing is written by them.

A link inside an archive is not followed, an archive inside an archive is not opened. An archive
that would unpack to far more than its own size is refused, and one member never gives more than
``MAX_BYTES``.
"""

from __future__ import annotations

import functools
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from genctl.data.decode import MAX_BYTES, BrokenImageError
from genctl.data.folder import METADATA, Listing, is_image_name, suffix_of, too_much_metadata
from genctl.data.limits import MAX_METADATA_BYTES
from genctl.data.tar_stream import open_tar
from genctl.errors import DataError
from genctl.printable import printable

MAX_EXPANSION = 1000
"""Largest ratio of unpacked bytes to the archive's own, beyond the first GiB."""
_DAMAGED = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,  # a decompressor was asked for an absurd window
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

    @functools.cached_property
    def _archive(self) -> zipfile.ZipFile:
        """Opened when needed: to read the names of a million members takes seconds."""
        try:
            return zipfile.ZipFile(self.path)
        except _DAMAGED as error:
            reason = _unreadable("zip", error)
            raise DataError(str(self.path), reason, "make it again") from None

    def listing(self) -> Listing:
        """Members that are images, by name; the last of two equal names wins, as in unzip."""
        found = Listing(total_bytes=self.path.stat().st_size)
        described: list[zipfile.ZipInfo] = []
        declared = 0
        for info in self._archive.infolist():
            declared += info.file_size
            name = info.filename
            if not name or info.is_dir():
                continue
            if PurePosixPath(name).name.lower() in METADATA:
                described.append(info)
            elif is_image_name(name):
                found.names.append(name)
            else:
                found.ignored[suffix_of(name)] += 1
        # What it declares is judged as a whole before a byte is unpacked.
        if declared > _allowed(self.path):
            reason = f"declares {declared:,} bytes, over {MAX_EXPANSION} times its own size"
            raise DataError(str(self.path), reason, "unpack it yourself if you trust it")
        size = sum(info.file_size for info in described)
        if size > MAX_METADATA_BYTES:
            raise too_much_metadata(str(self.path), f"declares {size:,} bytes of metadata")
        found.metadata_bytes = size
        found.metadata = [(info.filename, self._text(info)) for info in described]
        found.names = sorted(set(found.names))
        return found

    def size(self, name: str) -> int:
        """Bytes that ``read`` would hold; 0 for a member that it refuses."""
        try:
            size = self._archive.getinfo(name).file_size
        except KeyError:
            return 0
        return size if size <= MAX_BYTES else 0

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
            raise BrokenImageError(f"damaged in the archive: {printable(error)}") from None

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """All members in order, one after the other."""
        for name in names:
            yield name, self.read(name)

    def _text(self, info: zipfile.ZipInfo) -> str:
        try:
            return self._archive.read(info).decode("utf-8-sig")
        except _DAMAGED as error:
            thing = f"{self.path}: {printable(info.filename)}"
            reason = f"cannot be read as UTF-8: {printable(error)}"
            raise DataError(thing, reason, "") from None


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
        try:
            with open_tar(self.path, _allowed(self.path)) as archive:
                for member in archive:
                    if not member.regular:
                        continue
                    name = member.name
                    if PurePosixPath(name).name.lower() in METADATA:
                        found.count_metadata(str(self.path), member.size)
                        text = archive.read(member.size).decode("utf-8-sig")
                        found.metadata.append((name, text))
                    elif is_image_name(name):
                        found.names.append(name)
                    else:
                        found.ignored[suffix_of(name)] += 1
        except _DAMAGED as error:
            raise DataError(str(self.path), _unreadable("tar", error), "make it again") from None
        found.names = sorted(set(found.names))
        return found

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """The wanted members in the archive's order, which needs no going back."""
        wanted = set(names)
        try:
            with open_tar(self.path, _allowed(self.path)) as archive:
                for member in archive:
                    if member.regular and member.name in wanted:
                        wanted.discard(member.name)
                        yield member.name, archive.read(MAX_BYTES + 1)
        except _DAMAGED as error:
            raise DataError(str(self.path), _unreadable("tar", error), "make it again") from None


def is_archive(path: Path) -> bool:
    """Whether a file is named like a zip or a tar."""
    name = path.name.lower()
    return name.endswith((".zip", *TAR_SUFFIXES))


def open_archive(path: Path) -> ZipSource | TarSource:
    """A source for a zip or a tar, by its content and not only by its name.

    Raises:
        DataError: it is neither.
    """
    try:
        if zipfile.is_zipfile(path):
            return ZipSource(path)
        with open_tar(path, 2**20) as archive:
            next(iter(archive), None)
        return TarSource(path)
    except ValueError:
        pass
    except _DAMAGED as error:
        reason = f"cannot be read: {printable(error)}"
        raise DataError(str(path), reason, "make it again") from None
    raise DataError(str(path), "neither a zip nor a tar, whatever its name", "make it again")


def _allowed(path: Path) -> int:
    return 2**30 + MAX_EXPANSION * path.stat().st_size


def _unreadable(kind: str, error: Exception) -> str:
    return f"not a readable {kind}: {printable(error) or type(error).__name__}"


def _stamp(path: Path) -> str:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(str(path), error.strerror or str(error), "check the path") from None
    return f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"
