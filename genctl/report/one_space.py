"""Sides that hold stored features: they are compared with features of their own kind only.

A file that ``data cache --statistics --out`` wrote says whose its features are, so the other side
can be examples, which are then seen through the same extractor; and how its data was prepared,
which must be as a run prepared its own. A file that says nothing can only stand beside another
file, and it is the user who knows that both are of one kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genctl.errors import DataError
from genctl.report import preparation
from genctl.report.sides import Sampled, Stored

if TYPE_CHECKING:
    from genctl.report.gather import Gathered

IDENTITY = ("extractor_hash", "range", "resize", "channels", "precision")
"""What of two extractors' protocols must be equal: see ``Extractor.protocol``."""
WRITE_ONE = "`genctl data cache SPEC --statistics --features … --out FILE.npz` writes one that does"
PREPARE = "genctl data cache SPEC --statistics --features … --run"
"""How a file is made that fits a run, up to the run."""


def open_stored(path: str, n: int | None, seed: int, role: str, precision: str | None) -> Stored:
    """Stored rows, in the number format that was asked for, if any was.

    Raises:
        DataError: another format, or a damaged file.
    """
    side = Stored(Path(path), n, seed, role)
    said = side.facts["precision"]
    network = not side.told or side.told.get("extractor_hash") is not None
    if network and precision not in (None, said or "fp32"):
        raise DataError(
            path,
            f"its features are stored in {_in_words(said)}, asked for {precision}",
            "leave --precision out, or compute and store them again",
        )
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
                _require_prepared_alike(side, found.generated, found.warnings)
        return
    for first, side in itertools.combinations(sides, 2):
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


def _require_prepared_alike(side: Stored, run: Sampled, warnings: list[str]) -> None:
    """A run is compared with data of its own size and preparation: others give other numbers."""
    remedy = f"{PREPARE} {run.name} --out {Path(side.name).name}"
    shape = side.facts.get("shape")
    if isinstance(shape, list) and list(run.shape)[1:] != shape[1:]:
        reason = f"holds features of pictures of {tuple(shape)}, {run.name} makes {run.shape}"
        raise DataError(side.name, reason, remedy)
    unlike, unknown = preparation.compared(run.run, side.facts)
    if unlike:
        reason = f"its data was prepared in another way than that of {run.name}: "
        raise DataError(side.name, reason + "; ".join(unlike), remedy)
    if unknown:
        names = ", ".join(f"data.{key}" for key in unknown)
        text = f"{side.name} does not say the {names} of its data: it is taken for the run's own"
        if text not in warnings:
            warnings.append(text)


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
