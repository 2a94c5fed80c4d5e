"""The data SPEC: one line of text that says where examples come from.

``SPEC[@train|@test|@all]`` where SPEC is a path, ``digits``, ``NAME:ROOT`` or
``toy:NAME?key=value``; or ``stacked:SPEC`` of a grey, labelled set. Parsing touches the file system
only to let an existing path win over any other reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from genctl.errors import UsageError
from genctl.printable import is_printable, printable
from genctl.registry import suggest

Split = Literal["train", "test", "all"]
SPLITS: tuple[Split, ...] = ("train", "test", "all")
NAMED = ("mnist", "fashion-mnist", "cifar10", "svhn", "celeba")
"""Data sets read by name from a root; downloaded only when asked for."""

_SPLIT = re.compile(r"^(?P<rest>.+)@(?P<split>train|test|all)$", re.DOTALL)
_SCHEME = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9_-]+):(?P<rest>.*)$", re.DOTALL)
_EXAMPLES = "a folder, .zip, .tar or .npz; digits; mnist:ROOT; toy:ring"


@dataclass(frozen=True)
class DataSource:
    """A parsed SPEC.

    Attributes:
        text: the SPEC as it was written.
        kind: ``path``, ``digits``, ``toy``, ``stacked`` or one of ``NAMED``.
        path: the path or root; None for ``digits`` and toys.
        toy: the toy's name.
        options: the toy's options.
        split: the part named by ``@train``, ``@test`` or ``@all``, if any.
        inner: of ``stacked``, the set whose pictures are stacked.
    """

    text: str
    kind: str
    path: Path | None = None
    toy: str = ""
    options: Mapping[str, float] = field(default_factory=dict)
    split: Split | None = None
    inner: DataSource | None = None

    def anywhere(self) -> str:
        """The SPEC with its path made absolute, so that a run can go on from another folder."""
        if self.inner is not None:
            return f"stacked:{self.inner.anywhere()}" + (f"@{self.split}" if self.split else "")
        if self.path is None:
            return self.text
        scheme = "" if self.kind == "path" else f"{self.kind}:"
        return f"{scheme}{self.path.absolute()}" + (f"@{self.split}" if self.split else "")


def parse_spec(text: str) -> DataSource:
    """Read a SPEC.

    Raises:
        UsageError: empty, unknown name, missing root, malformed option.
    """
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"--data {text!r}", "names no data", f"e.g. {_EXAMPLES}")
    if not is_printable(text):
        reason = "holds characters that cannot be shown"
        raise UsageError(f"--data {printable(text)}", reason, "rename the file or folder")
    rest, split = text, None
    match = _SPLIT.match(text)
    if match is not None and not _exists(text):
        rest, split = match["rest"], _as_split(match["split"])
    if _exists(rest):
        return DataSource(text, "path", _path(text, rest), split=split)
    if rest == "digits":
        return DataSource(text, "digits", split=split)
    match = _SCHEME.match(rest)
    if match is not None:
        return _named(text, match["scheme"].lower(), match["rest"], split)
    if rest.lower() in NAMED:
        raise UsageError(text, "needs a root folder", f"write {rest.lower()}:ROOT")
    if "|" in rest or ("{" in rest and ".." in rest):
        kind = "pairs" if "|" in rest else "shards"
        raise UsageError(text, f"{kind} of files are not read yet", f"expected {_EXAMPLES}")
    return DataSource(text, "path", _path(text, rest), split=split)


def _named(text: str, scheme: str, rest: str, split: Split | None) -> DataSource:
    if scheme == "toy":
        name, _, query = rest.partition("?")
        if not name:
            raise UsageError(text, "names no toy", "e.g. toy:ring, toy:ring?radius=2&std=0.02")
        return DataSource(text, "toy", toy=name.lower(), options=_options(text, query), split=split)
    if scheme == "stacked":
        return _stacked(text, rest, split)
    if scheme not in NAMED:
        known = [*NAMED, "toy", "stacked"]
        raise UsageError(
            text,
            f"no such path, and {scheme!r} is no known data set{suggest(scheme, known)}",
            f"expected {_EXAMPLES}",
        )
    if not rest:
        raise UsageError(text, "needs a root folder", f"write {scheme}:ROOT")
    return DataSource(text, scheme, _path(text, rest), split=split)


def _stacked(text: str, rest: str, split: Split | None) -> DataSource:
    if not rest:
        raise UsageError(text, "names no set to stack", "e.g. stacked:digits, stacked:mnist:ROOT")
    inner = parse_spec(rest)
    if inner.kind in ("toy", "stacked") or inner.split is not None:
        raise UsageError(text, "cannot be stacked", "e.g. stacked:digits, stacked:mnist:ROOT@test")
    return DataSource(text, "stacked", split=split, inner=inner)


def _options(text: str, query: str) -> dict[str, float]:
    """Numbers given after the question mark."""
    if not query:
        return {}
    options: dict[str, float] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=32)
    except ValueError:
        pairs = [(query, "")]
    for key, value in pairs:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if number != number or abs(number) == float("inf"):
            raise UsageError(text, f"option {key!r} needs a number, found {value!r}", "key=value")
        if key in options:
            raise UsageError(text, f"option {key!r} is given twice", "give it once")
        options[key] = number
    return options


def _path(text: str, rest: str) -> Path:
    try:
        return Path(rest).expanduser()
    except RuntimeError:
        raise UsageError(
            text, "its ~ names no user of this machine", "write the path out"
        ) from None


def _as_split(word: str) -> Split:
    return SPLITS[SPLITS.index(word)]


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, unknown ~user, forbidden characters
        return False
