"""A tar read from front to back within bounds, compressed or not.

Only what a data set needs: regular files with their names. Links, devices and sparse files are
passed over. A header of any kind is at most ``MAX_HEADER_BYTES``, nothing is kept of a member that
was passed, and what is unpacked in all is bounded; so memory stays small whatever the file says.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_BLOCK = 512
_CHUNK = 2**20
MAX_HEADER_BYTES = 65_536
"""Of a long name or an extended header; names on disk end at 4,096."""
MAX_WINDOW_BYTES = 512 * 2**20
"""Memory that unpacking may take, whatever window an xz file asks for; `xz -9` needs 65 MiB."""
_REGULAR = (b"0", b"\0", b"7")
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")


class TarError(ValueError):
    """Not a tar, damaged, or beyond the bounds; the message says which."""


@dataclass(frozen=True)
class Member:
    """One entry: its name as it stands there, its bytes, and whether it is a plain file."""

    name: str
    size: int
    regular: bool


class TarStream:
    """Members one after the other; ``read`` gives the bytes of the present one.

    Args:
        file: the unpacked tar.
        length: its bytes where they are known, which allows skipping without reading.
        most: bytes that may be unpacked in all.
    """

    def __init__(self, file: IO[bytes], length: int | None, most: int) -> None:
        self.file, self.length, self.most = file, length, most
        self.passed = 0
        self.data = 0  # bytes of the present member that were not read
        self.padding = 0

    def __iter__(self) -> Iterator[Member]:
        name, extended = "", dict[bytes, bytes]()
        while True:
            self._skip(self.data + self.padding)
            self.data = self.padding = 0
            block = self._take(_BLOCK, whole=False)
            if not block.strip(b"\0"):  # the end mark, or a file that ends without one
                return
            if len(block) < _BLOCK or not _sum_fits(block):
                raise TarError("a header is damaged or cut off")
            kind, size = block[156:157], _number(block[124:136])
            if kind in (b"L", b"K", b"x", b"g"):
                text = self._take(_header_size(size))[:size]
                if kind == b"L":
                    name = _text(text)
                elif kind == b"x":
                    extended = _records(text)
                continue
            if kind == b"S" and block[482]:  # an old sparse file: more of its map follows
                while self._take(_BLOCK)[504]:
                    pass
            if b"size" in extended:
                size = _decimal(extended[b"size"])
            sparse = kind == b"S" or any(key.startswith(b"GNU.sparse") for key in extended)
            found = _text(extended[b"path"]) if b"path" in extended else name or _name_in(block)
            self.data = size if kind in (*_REGULAR, b"S") or kind > b"7" else 0
            self.padding = -self.data % _BLOCK
            plain = kind in _REGULAR and not sparse and not found.endswith("/")
            yield Member(found, size, plain)
            name, extended = "", {}

    def read(self, limit: int) -> bytes:
        """At most ``limit`` bytes of the present member."""
        wanted = min(self.data, limit)
        self.data -= wanted
        return self._take(wanted)

    def _take(self, count: int, whole: bool = True) -> bytes:
        self._pass(count)
        found = io.BytesIO()  # gives what it holds without another copy
        while count > 0:
            part = self.file.read(min(count, _CHUNK))  # never room for what may not be there
            if not part:
                break
            found.write(part)
            count -= len(part)
        if count and whole:
            raise TarError("the file ends in the middle of a member")
        return found.getvalue()

    def _skip(self, count: int) -> None:
        if self.length is None:
            while count > 0:
                self._take(min(count, _CHUNK))
                count -= _CHUNK
            return
        self._pass(count)
        if self.file.tell() + count > self.length:
            raise TarError("the file ends in the middle of a member")
        self.file.seek(count, os.SEEK_CUR)

    def _pass(self, count: int) -> None:
        self.passed += count
        if self.passed > self.most:
            raise TarError(f"unpacks to more than {self.most:,} bytes")


class _Unxz(io.RawIOBase):
    """What ``lzma.open`` reads, but within ``MAX_WINDOW_BYTES``."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.stream = raw, self._stream()

    def _stream(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=MAX_WINDOW_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of the buffer; 0 at the end.

        Raises:
            EOFError: the file ends inside a stream.
            lzma.LZMAError: damaged, or it wants more memory.
        """
        while True:
            packed = b""
            if self.stream.eof:  # another stream may follow, after zeros
                packed = self.stream.unused_data.lstrip(b"\0") or self.raw.read(_CHUNK)
                if not packed:
                    return 0
                self.stream = self._stream()
            elif self.stream.needs_input:
                packed = self.raw.read(_CHUNK)
                if not packed:
                    raise EOFError("the file ends inside a compressed stream")
            found = self.stream.decompress(packed, max_length=len(buffer))
            if found:
                buffer[: len(found)] = found
                return len(found)


@contextmanager
def open_tar(path: Path, most: int) -> Iterator[TarStream]:
    """The members of a tar, a tar.gz, a tar.bz2 or a tar.xz, by its content.

    Args:
        path: the archive.
        most: bytes that may be unpacked in all.
    """
    with open(path, "rb") as raw:
        head = raw.read(6)
        raw.seek(0)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(raw) as file:
                yield TarStream(file, None, most)  # type: ignore[arg-type]
        elif head.startswith(b"BZh"):
            with bz2.open(raw) as file:
                yield TarStream(file, None, most)
        elif head.startswith((b"\xfd7zXZ\0", b"]\0\0")):
            with io.BufferedReader(_Unxz(raw)) as file:
                yield TarStream(file, None, most)
        else:
            yield TarStream(raw, os.fstat(raw.fileno()).st_size, most)


def _header_size(size: int) -> int:
    if size > MAX_HEADER_BYTES:
        raise TarError(f"a header of {size:,} bytes, more than {MAX_HEADER_BYTES:,}")
    return size + -size % _BLOCK


def _number(field: bytes) -> int:
    """An octal number, or GNU's big-endian one for large sizes."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise TarError("a header holds no number where its size should be")
    return int(match[1] or b"0", 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarError("a header holds no number where its size should be")
    return int(text)


def _sum_fits(block: bytes) -> bool:
    match = _OCTAL.match(block[148:156])
    return match is not None and int(match[1] or b"0", 8) == (
        sum(block[:148]) + 8 * 0x20 + sum(block[156:])
    )


def _records(text: bytes) -> dict[bytes, bytes]:
    """``length key=value`` lines of an extended header."""
    found, place = {}, 0
    while place < len(text) and text[place]:
        digits, space, _ = text[place : place + 8].partition(b" ")
        length = _decimal(digits)
        key, equals, value = text[place + len(digits) + 1 : place + length - 1].partition(b"=")
        if not space or not equals or place + length > len(text):
            raise TarError("an extended header is damaged")
        found[key] = value
        place += length
    return found


def _name_in(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", errors="surrogateescape")
