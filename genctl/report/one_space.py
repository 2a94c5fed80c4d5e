"""Sides that hold stored features: they are compared with features of their own kind only.

A file that ``data cache --statistics --out`` wrote says whose its features are, so the other side
can be examples, which are then seen through the same extractor. A file that says nothing can only
stand beside another file, and it is the user who knows that both are of one kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl.errors import DataError
from genctl.metrics.features import stored
from genctl.report.sides import Sampled, Stored

if TYPE_CHECKING:
    from genctl.report.gather import Gathered, Request

IDENTITY = ("extractor_hash", "range", "resize", "channels", "precision")
"""What of two extractors' protocols must be equal: see ``Extractor.protocol``."""
WRITE_ONE = "`genctl data cache SPEC --statistics --features … --out FILE.npz` writes one that does"


def open_stored(path: str, request: Request, role: str) -> Stored:
    """Stored rows, in the number format that was asked for, if any was.

    Raises:
        DataError: another format, or a damaged file.
    """
    said = stored.precision_of(Path(path))
    if request.precision not in (None, said or "fp32"):
        raise DataError(
            path,
            f"its features are stored in {_in_words(said)}, asked for {request.precision}",
            "leave --precision out, or compute and store them again",
        )
    side = Stored(Path(path), request.n, request.seed, role)
    side.facts["precision"] = said
    return side


def require_told(side: Stored, other: str) -> None:
    """Insist that a file says whose features it holds, where they must be made of another side.

    Raises:
        DataError: it does not.
    """
    if not side.told:
        raise DataError(
            "the two sides",
            f"{side.name} gives stored features and does not say whose, {other} gives examples",
            f"{WRITE_ONE}; or give examples on both sides",
        )


def require_one_space(found: Gathered) -> None:
    """Refuse to mix features of two kinds, such as the same images seen in fp32 and in bf16.

    Raises:
        DataError: a side is of another kind than the extractor, or than the first file.
    """
    parts = () if found.parts is None else (found.parts.training, found.parts.held_out)
    sides = [s for s in (found.generated, found.real, *parts) if isinstance(s, Stored)]
    if found.extractor is not None:
        for side in sides:
            require_told(side, "the other side")
            _require_alike(side, found.extractor.protocol, found.extractor.name)
            if isinstance(found.generated, Sampled):
                _require_one_size(side, found.generated)
        return
    for first, side in itertools.pairwise(sides):
        _require_one_precision(first, side)
        if first.told and side.told:
            _require_alike(side, first.told, first.name)


def _require_alike(side: Stored, protocol: Mapping[str, Any], other: str) -> None:
    for key in IDENTITY:
        mine, theirs = side.told.get(key), protocol.get(key)
        if mine != theirs:
            kind = side.told.get("extractor")
            raise DataError(
                side.name,
                f"holds features of another kind ({kind}) than {other}: {key} {mine}, not {theirs}",
                "--features and --precision as the file was made; or give the examples themselves",
            )


def _require_one_size(side: Stored, run: Sampled) -> None:
    """A run is compared with data of its own size: a file of another would give other numbers."""
    shape = side.facts.get("shape")
    if isinstance(shape, list) and list(run.shape)[1:] != shape[1:]:
        edge = run.shape[-1]
        raise DataError(
            side.name,
            f"holds features of pictures of {tuple(shape)}, {run.name} makes {run.shape}",
            f"genctl data cache SPEC --statistics --size {edge} --out {Path(side.name).name}",
        )


def _require_one_precision(first: Stored, second: Stored) -> None:
    one, two = first.facts.get("precision"), second.facts.get("precision")
    if (one or "fp32") != (two or "fp32"):
        raise DataError(
            "the two sides",
            f"{first.name} is stored in {_in_words(one)}, {second.name} in {_in_words(two)}",
            "compute the features of both sides in one precision",
        )


def _in_words(precision: str | None) -> str:
    return precision or "fp32 (it says no `precision`)"
