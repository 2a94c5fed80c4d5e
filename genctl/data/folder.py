"""Listing image files in a folder: recursive, in a stable order, safe against links.

Ignored, not broken: names beginning with a dot, ``Thumbs.db``, folders named like images, and files
whose name does not promise an image. Links to files and folders inside the folder are followed,
each real folder once, so that loops end. Links that lead out of it are not followed, but counted
and said: a folder of unknown origin must not choose what is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePosixPath

from genctl.data.decode import MAX_BYTES, SUFFIXES, BrokenImageError
from genctl.data.limits import MAX_METADATA_BYTES
from genctl.errors import DataError
from genctl.printable import printable
from genctl.reading import read_limited

METADATA = ("metadata.csv", "metadata.jsonl")
"""Files that give captions or labels, beside the images they speak of."""


@dataclass
class Listing:
    """Files found in a folder or an archive.

    Attributes:
        names: image files, relative, with forward slashes, sorted.
        stamp: what changes when any file does; the fast key of the cache.
        metadata: relative name and text of each metadata file.
        metadata_bytes: what these have together.
        ignored: suffixes of the files that were not looked at, counted.
        notes: what a user should know about the listing.
    """

    names: list[str] = field(default_factory=list)
    stamp: list[str] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    metadata_bytes: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    total_bytes: int = 0

    def count_metadata(self, thing: str, size: int) -> None:
        """Count a metadata file that is about to be read.

        Args:
            thing: the data set, for messages.
            size: bytes of the file.

        Raises:
            DataError: with those before it they are too many.
        """
        self.metadata_bytes += size
        if self.metadata_bytes > MAX_METADATA_BYTES:
            raise too_much_metadata(thing, f"its metadata has {self.metadata_bytes:,} bytes")


def too_much_metadata(thing: str, found: str) -> DataError:
    """The refusal of a source by its metadata files, all of which are kept in memory."""
    reason = f"{found}, at most {MAX_METADATA_BYTES:,} in all its metadata files are read"
    return DataError(thing, reason, "split the set, or shorten its captions")


def is_image_name(name: str) -> bool:
    """Whether a relative name promises an image and no part of it is hidden."""
    path = PurePosixPath(name.replace("\\", "/"))
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts if part != ".."):
        return False
    return path.suffix.lower() in SUFFIXES


def suffix_of(name: str) -> str:
    """The suffix under which a file that is not looked at is counted."""
    return printable(PurePosixPath(name).suffix.lower(), 20) or "no suffix"


class FolderSource:
    """A folder of image files.

    Args:
        root: the folder.

    Raises:
        DataError: missing, or not to be listed.
    """

    sequential = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = str(root.resolve())

    def listing(self) -> Listing:
        """Walk the folder. Raises DataError where the folder itself cannot be read."""
        found = Listing()
        visited = {os.path.realpath(self.root)}
        outside: list[str] = []
        shut: list[str] = []
        # Plain folders first: a link to one of them is then known to be a repetition.
        links = self._walk(self.root, "", found, visited, outside, shut)
        while links:
            path, relative = links.pop(0)
            target = os.path.realpath(path)
            if target in visited:
                continue
            visited.add(target)
            links += self._walk(Path(path), relative, found, visited, outside, shut)
        if outside:
            found.ignored["links that lead out of it"] = len(outside)
            found.notes.append(
                f"{len(outside):,} links lead out of the folder and were not followed "
                f"(the first is {printable(outside[0])}): copy what they point to"
            )
        if shut:
            found.notes.append(f"{len(shut):,} sub-folders cannot be listed: first {shut[0]}")
        order = sorted(range(len(found.names)), key=found.names.__getitem__)
        found.names = [found.names[i] for i in order]
        found.stamp = [found.stamp[i] for i in order]
        return found

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises BrokenImageError with the reason."""
        try:
            return read_limited(self.root / name, MAX_BYTES)
        except OSError as error:
            raise BrokenImageError(error.strerror or str(error)) from None

    def size(self, name: str) -> int:
        """Bytes that ``read`` would hold; 0 for a file that it refuses."""
        try:
            size = os.stat(f"{self.root}/{name}").st_size  # for each file: a Path takes longer
        except (OSError, ValueError):
            return 0
        return size if size <= MAX_BYTES else 0

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """All files in order, one after the other."""
        for name in names:
            yield name, self.read(name)

    def _walk(
        self,
        folder: Path,
        prefix: str,
        found: Listing,
        visited: set[str],
        outside: list[str],
        shut: list[str],
    ) -> list[tuple[str, str]]:
        """Add the files below ``folder``; returns the linked folders met, unvisited.

        Links out of the root go to ``outside``, folders that cannot be listed to ``shut``.
        """
        links: list[tuple[str, str]] = []
        stack = [(str(folder), prefix)]
        while stack:
            here, relative = stack.pop()
            try:
                entries = sorted(os.scandir(here), key=attrgetter("name"))
            except OSError as error:
                if here == str(self.root):
                    raise DataError(here, error.strerror or str(error), "check the path") from None
                shut.append(f"{printable(relative)}: {error.strerror}")
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "Thumbs.db":
                    continue
                name = f"{relative}/{entry.name}" if relative else entry.name
                if entry.is_file(follow_symlinks=False):  # first: there may be a million
                    _add_file(entry, name, found)
                elif entry.is_symlink() and not _holds(self.key, os.path.realpath(entry.path)):
                    outside.append(name)
                elif _is_folder(entry):
                    if PurePosixPath(entry.name).suffix.lower() in SUFFIXES:
                        continue
                    if entry.is_symlink():
                        links.append((entry.path, name))
                    else:
                        visited.add(os.path.realpath(entry.path))
                        stack.append((entry.path, name))
                else:
                    _add_file(entry, name, found)
        return links


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _add_file(entry: os.DirEntry[str], name: str, found: Listing) -> None:
    if name[name.rfind(".") :].lower() in SUFFIXES:
        found.names.append(name)
        try:
            facts = entry.stat()
            # The change time catches a rewrite that kept size and modification time.
            found.stamp.append(f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}")
            found.total_bytes += facts.st_size
        except OSError:
            found.stamp.append("?")
    elif entry.name.lower() in METADATA:
        _add_metadata(entry, name, found)
    else:
        found.ignored[suffix_of(entry.name)] += 1


def _add_metadata(entry: os.DirEntry[str], name: str, found: Listing) -> None:
    try:
        size = entry.stat().st_size
        found.count_metadata(printable(entry.path), size)
        # It may grow while it is read, but not beyond what there is left for all.
        room = MAX_METADATA_BYTES - found.metadata_bytes + size
        text = read_limited(entry.path, room).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot be read as UTF-8: {printable(error)}"
        raise DataError(printable(entry.path), reason, "") from None
    found.metadata.append((name, text))


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)
