"""Listing image files in a folder: recursive, in a stable order, safe against links.

Ignored, not broken: names beginning with a dot, ``Thumbs.db``, folders named like images, and files
whose name does not promise an image. Linked files and folders are followed, each real folder once,
and never a link to a folder that holds the data itself, so that loops end.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from genctl.data.decode import MAX_BYTES, SUFFIXES, BrokenImageError
from genctl.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl")
"""Files that give captions or labels, beside the images they speak of."""


@dataclass
class Listing:
    """Files found in a folder or an archive.

    Attributes:
        names: image files, relative, with forward slashes, sorted.
        stamp: what changes when any file does; the fast key of the cache.
        metadata: relative name and text of each metadata file.
        ignored: suffixes of the files that were not looked at, counted.
        notes: what a user should know about the listing.
    """

    names: list[str] = field(default_factory=list)
    stamp: list[str] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    total_bytes: int = 0


def is_image_name(name: str) -> bool:
    """Whether a relative name promises an image and no part of it is hidden."""
    path = PurePosixPath(name.replace("\\", "/"))
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts if part != ".."):
        return False
    return path.suffix.lower() in SUFFIXES


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
        # Plain folders first: a link to one of them is then known to be a repetition.
        links = self._walk(self.root, "", found, visited)
        while links:
            path, relative = links.pop(0)
            target = os.path.realpath(path)
            if target in visited or _holds(target, str(self.key)):
                continue
            visited.add(target)
            if not _holds(self.key, target):
                found.notes.append(f"{relative} is a link to {target}, which was followed")
            links += self._walk(Path(path), relative, found, visited)
        order = sorted(range(len(found.names)), key=lambda i: found.names[i])
        found.names = [found.names[i] for i in order]
        found.stamp = [found.stamp[i] for i in order]
        return found

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises BrokenImageError with the reason."""
        try:
            path = self.root / name
            # A pipe would block for ever and a device never ends.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise BrokenImageError("not a regular file")
            with open(path, "rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BrokenImageError(error.strerror or str(error)) from None

    def items(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """All files in order, one after the other."""
        for name in names:
            yield name, self.read(name)

    def _walk(
        self, folder: Path, prefix: str, found: Listing, visited: set[str]
    ) -> list[tuple[str, str]]:
        """Add the files below ``folder``; returns the linked folders met, unvisited."""
        links: list[tuple[str, str]] = []
        stack = [(str(folder), prefix)]
        while stack:
            here, relative = stack.pop()
            try:
                entries = sorted(os.scandir(here), key=lambda entry: entry.name)
            except OSError as error:
                if here == str(self.root):
                    raise DataError(here, error.strerror or str(error), "check the path") from None
                found.notes.append(f"{relative} cannot be listed: {error.strerror}")
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "Thumbs.db":
                    continue
                name = f"{relative}/{entry.name}" if relative else entry.name
                if _is_folder(entry):
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
    if entry.name.lower() in METADATA:
        try:
            text = Path(entry.path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(entry.path, f"cannot be read as UTF-8: {error}", "") from None
        found.metadata.append((name, text))
        return
    suffix = PurePosixPath(entry.name).suffix.lower()
    if suffix not in SUFFIXES:
        found.ignored[suffix or "no suffix"] += 1
        return
    try:
        facts = entry.stat()
        # The change time catches a rewrite that kept size and modification time.
        stamp = f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"
        found.total_bytes += facts.st_size
    except OSError:
        stamp = "?"
    found.names.append(name)
    found.stamp.append(stamp)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)
