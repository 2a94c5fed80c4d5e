"""The pictures of a run by step, as small as a page needs them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from genctl.data.decode import BrokenImageError, decode
from genctl.engine.run_directory import RunDirectory
from genctl.reading import read_limited
from genctl.report.page import png_uri

MOST = 48
"""Pictures of one run: more steps of a slider than anyone looks at."""
EDGE = 720
"""Pixels of the longer edge; larger pictures are made smaller."""
BUDGET = 6 * 2**20
"""Bytes of all pictures of a page, before they are written as text, which takes a third more."""
_FILE_LIMIT = 64 * 2**20
_NAME = re.compile(r"step-(\d{1,15})\.png")


@dataclass(frozen=True)
class Preview:
    """What a run drew at one step."""

    step: int
    uri: str
    width: int
    height: int


@dataclass
class Previews:
    """Pictures in the order of their steps, and what was left out or changed."""

    pictures: list[Preview] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_previews(run: RunDirectory, until: int | None = None, budget: int = BUDGET) -> Previews:
    """The previews of a run.

    Args:
        run: the run.
        until: the last step to show.
        budget: bytes that the pictures may have together.
    """
    files = _files(run.samples, until)
    found = Previews()
    chosen = _evenly(files, MOST)
    if len(chosen) < len(files):
        found.notes.append(f"{len(chosen)} of {len(files)} previews, evenly spaced")
    broken, smaller, lossy = 0, 0, 0
    for step, path in chosen:
        image = _read(path, run.path)
        if image is None:
            broken += 1
            continue
        if max(image.size) > EDGE:
            image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
            smaller += 1
        data, kind = _encoded(image, budget // len(chosen))
        lossy += kind == "jpeg"
        found.pictures.append(Preview(step, png_uri(data, kind), *image.size))
    if broken:
        found.notes.append(f"{broken} could not be read and were left out")
    if smaller:
        found.notes.append(f"{smaller} made smaller, to {EDGE} pixels")
    if lossy:
        found.notes.append(f"{lossy} compressed as JPEG, or smaller, to keep the page small")
    return found


def read_one(path: Path, run: Path, step: int, budget: int) -> Preview | None:
    """One picture of a run's, in at most so many bytes where that is possible; or None."""
    image = _read(path, run)
    if image is None:
        return None
    if max(image.size) > EDGE:
        image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    data, kind = _encoded(image, budget)
    return Preview(step, png_uri(data, kind), *image.size)


def _files(folder: Path, until: int | None) -> list[tuple[int, Path]]:
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    named = [(int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
    return sorted(pair for pair in named if until is None or pair[0] <= until)


def _evenly(items: Sequence[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """At most ``most`` of them, the first and the last included."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _read(path: Path, run: Path) -> Image.Image | None:
    """A picture of the run's own: a link out of it would put a file of this machine on the page."""
    try:
        if not path.resolve().is_relative_to(run.resolve()):
            return None
        pixels = decode(read_limited(path, _FILE_LIMIT)).pixels
    except (OSError, BrokenImageError):
        return None
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _encoded(image: Image.Image, share: int) -> tuple[bytes, str]:
    """PNG where that is small enough, else JPEG, ever smaller."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    if buffer.tell() <= share:
        return buffer.getvalue(), "png"
    while True:
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=88)
        if buffer.tell() <= share or max(image.size) < 128:
            return buffer.getvalue(), "jpeg"
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)))
