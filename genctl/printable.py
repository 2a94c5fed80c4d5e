r"""Text fit for a terminal, that of foreign origin too: file names, labels, keys, messages.

A file may be called ``\x1b[2J``, or hold a line break and what looks like a message of ours. What
cannot be shown stands there as its escape, so that it is seen and does nothing.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import os
import re
import sys
from typing import Any, TextIO

# Control characters, line separators, marks that turn the direction of writing, lone surrogates.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_PLAIN = {"→": "->", "←": "<-", "±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "·": "-"}
_PLAIN |= {"≤": "<=", "≥": ">=", "≈": "~", "é": "e", "ö": "o", "²": "^2", "β": "beta", "ρ": "rho"}
"""What our own messages hold, for terminals without Unicode."""


def printable(text: object, limit: int = 200) -> str:
    """One line that is safe to print.

    Args:
        text: anything; its ``str`` is taken.
        limit: characters kept; the rest is three dots.
    """
    whole = str(text)
    shown = _UNSEEN.sub(_escape, whole[:limit])
    return f"{shown}…" if len(whole) > limit else shown


def is_printable(text: str) -> bool:
    """Whether nothing in the text needs an escape."""
    return _UNSEEN.search(text) is None


def size_in_words(count: int) -> str:
    """A number of bytes in the unit that gives it one to four digits."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def write_anywhere(*streams: TextIO) -> None:
    """Let streams write what their encoding lacks in plain characters, else as its escape.

    In the C locale an arrow in a message, or an accent in a file's name, would end the command.
    """
    codecs.register_error("genctl.plain", _in_plain)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="genctl.plain")


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    shown = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in lost)
    return "".join(shown), error.end


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def say(text: str) -> None:
    """A line on stderr. Where it cannot be written, the reader gone say, the work goes on."""
    print(text, file=Unfailing(sys.stderr), flush=True)


class Unfailing:
    """A stream whose failures cost nobody anything: after one, what is written to it is lost.

    A terminal is closed, a disk is full where the messages are kept: no reason to end a run.

    Args:
        stream: to write to; None, which Python has where it was closed, is nowhere.

    Attributes:
        error: the failure, if there was one.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = _nowhere() if stream is None else stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write, or give the stream up."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError) as error:  # the latter if it was closed in this process
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or give the stream up."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        """What is still in the stream's buffer goes nowhere too, and Python ends without a word."""
        self.error = self.error or error
        with contextlib.suppress(OSError, ValueError):  # it may have no file of the system
            os.dup2(_nowhere().fileno(), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@functools.cache
def _nowhere() -> TextIO:
    return open(os.devnull, "w")
