"""Labels, captions and splits from names: class sub-folders, train/test folders, metadata files."""

from __future__ import annotations

import csv
import json
import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from genctl.data.limits import MAX_CLASSES, MAX_METADATA_LINE
from genctl.errors import DataError
from genctl.printable import printable

_TRAIN = {"train", "training"}
_TEST = {"test", "testing", "val", "valid", "validation", "dev"}


@dataclass
class Naming:
    """What the names of the files say, in the order of the names.

    Attributes:
        labels: ``(N,)`` int64, −1 where a file has none; None without labels.
        class_names: in label order.
        captions: one text a file, empty where it has none; None without captions.
        test: ``(N,)`` bool, true below ``test`` or ``val``; None without such folders.
        notes: what a user should know.
    """

    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    captions: list[str] | None = None
    test: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def name_facts(names: Sequence[str], metadata: Sequence[tuple[str, str]], thing: str) -> Naming:
    """Labels from metadata if it gives any, otherwise from sub-folders.

    Args:
        names: relative file names.
        metadata: name and text of each metadata file.
        thing: the data set, for messages.

    Raises:
        DataError: a metadata file that cannot be parsed, or labels of mixed types.
    """
    naming = Naming()
    # A million names lie in few folders: what a folder says is found once for all in it.
    places = [name[: name.rfind("/") + 1] for name in names]
    parts = _strip_common({place: place.split("/")[:-1] for place in set(places)})
    tops = {path[0].lower() if path else "" for path in parts.values()}
    if tops <= _TRAIN | _TEST and tops & _TRAIN and tops & _TEST:
        late = {place: path[0].lower() in _TEST for place, path in parts.items()}
        naming.test = np.array([late[place] for place in places])
        naming.notes.append(f"the folders {', '.join(sorted(tops))} are taken as the splits")
        parts = _strip_common({place: path[1:] for place, path in parts.items()})
    if metadata:
        _from_metadata(naming, names, _metadata_rows(names, metadata, thing))
    if naming.labels is None:
        _from_folders(naming, places, {place: path[:1] for place, path in parts.items()})
    return naming


def _strip_common(parts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Remove leading folders that all files share."""
    paths, depth = list(parts.values()), 0
    while paths and all(len(path) > depth and path[depth] == paths[0][depth] for path in paths):
        depth += 1
    return {place: path[depth:] for place, path in parts.items()}


def _from_folders(naming: Naming, places: list[str], tops: dict[str, list[str]]) -> None:
    """Classes from the first folder, if any, of each file's place."""
    classes = sorted({folder for top in tops.values() for folder in top})
    if len(classes) < 2:
        return
    beside = {place for place, top in tops.items() if not top}
    if beside:
        loose = sum(place in beside for place in places)
        naming.notes.append(
            f"{loose:,} images lie beside the {len(classes)} sub-folders, so these are no classes"
        )
        return
    if _too_many(naming, classes, "sub-folders"):
        return
    number = {name: k for k, name in enumerate(classes)}
    label = {place: number[top[0]] for place, top in tops.items()}
    naming.labels = np.array([label[place] for place in places], dtype=np.int64)
    naming.class_names = tuple(printable(name) for name in classes)


def _too_many(naming: Naming, classes: Sequence[str], what: str) -> bool:
    if len(classes) <= MAX_CLASSES:
        return False
    naming.notes.append(f"{len(classes):,} {what} are more than {MAX_CLASSES:,}: no classes")
    return True


@dataclass
class _Rows:
    """Label and text by the path of an image that was found; how many rows there are."""

    found: dict[str, tuple[object, str | None]] = field(default_factory=dict)
    total: int = 0
    strangers: int = 0


def _metadata_rows(names: Sequence[str], metadata: Sequence[tuple[str, str]], thing: str) -> _Rows:
    """Rows of the images that were found; of the others only their number is kept."""
    known = {posixpath.normpath(name) for name in names}
    rows = _Rows()
    for name, text in metadata:
        where = f"{thing}: {printable(name)}"
        for number, row in _parse(name, text, where):
            file_name = row.get("file_name")
            if not isinstance(file_name, str) or not file_name:
                raise DataError(where, f"line {number} has no file_name", _EXPECTED)
            rows.total += 1
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), file_name))
            if path in known:
                label, caption = row.get("label"), row.get("text")
                if isinstance(label, list | dict):
                    reason = "a label in the metadata is a list or an object"
                    raise DataError(thing, reason, "one label an image")
                rows.found[path] = label, None if caption is None else str(caption)
            else:
                rows.strangers += 1
    return rows


_EXPECTED = "expected file_name and text and/or label"


def _parse(name: str, text: str, where: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and row, one after the other: a list of all would be many times the text."""
    if name.lower().endswith(".jsonl"):
        for number, line in enumerate(_lines(text, where), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = f"line {number} is not JSON: {printable(error)}"
                raise DataError(where, reason, "") from None
            if not isinstance(row, dict):
                raise DataError(where, f"line {number} is not an object", _EXPECTED)
            yield number, row
        return
    try:
        reader = csv.DictReader(_lines(text, where), strict=True)
        if "file_name" not in (reader.fieldnames or []):
            found = printable(", ".join(reader.fieldnames or [])) or "nothing"
            raise DataError(where, f"its header holds {found}", _EXPECTED)
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(where, f"not a CSV file: {printable(error)}", _EXPECTED) from None


def _lines(text: str, where: str) -> Iterator[str]:
    """Lines with their ends. Raises DataError at one that is absurdly long."""
    start = number = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        number += 1
        if end - start > MAX_METADATA_LINE:
            reason = f"line {number} has {end - start:,} characters, more than a row can have"
            raise DataError(where, reason, _EXPECTED)
        yield text[start:end]
        start = end


def _from_metadata(naming: Naming, names: Sequence[str], rows: _Rows) -> None:
    if not rows.total:
        return
    found = [rows.found.get(posixpath.normpath(name)) for name in names]
    missing = sum(row is None for row in found)
    if missing:
        naming.notes.append(f"{missing:,} of {len(names):,} images have no row in the metadata")
    if rows.strangers:
        naming.notes.append(f"{rows.strangers:,} rows of the metadata name no image that was found")
    texts = [None if row is None else row[1] for row in found]
    if any(text not in (None, "") for text in texts):
        naming.captions = [text or "" for text in texts]
    values = [None if row is None else row[0] for row in found]
    words = [None if value in (None, "") else str(value) for value in values]
    classes = sorted({word for word in words if word is not None}, key=_label_order)
    if not classes or _too_many(naming, classes, "labels in the metadata"):
        return
    place = {word: k for k, word in enumerate(classes)}
    naming.labels = np.array([-1 if w is None else place[w] for w in words], dtype=np.int64)
    naming.class_names = tuple(printable(word) for word in classes)


def _label_order(word: str) -> tuple[int, float, str]:
    """Numbers by size, before words by alphabet: 10 comes after 9."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    return (0, number, word) if math.isfinite(number) else (1, 0.0, word)
