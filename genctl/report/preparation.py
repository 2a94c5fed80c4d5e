"""How data was prepared before its features were taken, and whether a run's was prepared likewise.

A run is compared with data that is prepared as its own was: cut, binarised and without the labels
that it never saw. Examples are opened so; a file of features cannot be, so it says how its data
was prepared, and one of another preparation is refused: it would give another number, unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genctl.config.schema import DataConfig
from genctl.data.dataset import Dataset
from genctl.data.spec import NAMED, parse_spec
from genctl.engine.run import Run

PREPARED = ("crop", "binarise", "without", "holdout")
"""Keys of ``data`` that decide which pictures are seen and how; the size is told by the shape."""


def of(dataset: Dataset, spec: str, run: Run | None) -> dict[str, Any]:
    """How a data set was prepared, for the protocol.

    ``holdout`` is None where nothing depends on it: of the whole of a set, or of one that has a
    test part of its own.

    Args:
        dataset: opened from ``spec``.
        spec: the data SPEC.
        run: decided the preparation, if any did.
    """
    asked = DataConfig() if run is None else run.config.data
    source = parse_spec(spec)
    kind = source.kind if source.inner is None else source.inner.kind
    divided = dataset.split == "all" or kind in (*NAMED, "toy")
    return {
        "crop": dataset.crop,
        "binarise": dataset.binarise,
        "without": list(asked.without),
        "holdout": None if divided else asked.holdout,
    }


def compared(run: Run, told: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What a file says of its data beside what the run did with its own.

    Args:
        run: the run.
        told: how the file's data was prepared, as ``of`` has it.

    Returns:
        The keys that differ, in words, and the keys that the file does not tell.
    """
    mine = run.config.data
    wanted: dict[str, Any] = {
        "crop": mine.crop,
        "binarise": "fixed" if mine.binarise == "dynamic" else mine.binarise,
        "without": list(mine.without),
        "holdout": mine.holdout,
    }
    if run.spec.kind == "points":
        del wanted["crop"]
    if "holdout" in told and told["holdout"] is None:
        del wanted["holdout"]
    unknown = [key for key in wanted if key not in told]
    unlike = [
        f"data.{key} {told[key]}, not {value}"
        for key, value in wanted.items()
        if key in told and told[key] != value
    ]
    return unlike, unknown
