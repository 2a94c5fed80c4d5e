"""What ``state.json`` must look like. The checksum guards against accidents, this against malice.

Keys that a later genctl adds are optional here, so old checkpoints stay readable; keys that this
one does not know are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

_EXACT = 2**63 - 1
Count = Annotated[int, Field(ge=0, le=_EXACT)]
Word = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(max_length=500)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MERSENNE = 624
"""Words of state in the generators of Python and NumPy."""


class _Node(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class PlateauState(_Node):
    """A schedule that depends on what was logged."""

    factor: float | None
    best: float | None
    waited: float | None


class PlayerState(_Node):
    """A player's clock and its schedule."""

    count: Count
    schedule: PlateauState | None


class Generators(_Node):
    """The global generators of Python and NumPy."""

    python: tuple[
        Literal[3],
        Annotated[list[Word], Field(min_length=MERSENNE + 1, max_length=MERSENNE + 1)],
        Finite | None,
    ]
    numpy: tuple[
        Literal["MT19937"],
        Annotated[list[Word], Field(min_length=MERSENNE, max_length=MERSENNE)],
        Annotated[int, Field(ge=0, le=MERSENNE)],
        Literal[0, 1],
        Finite,
    ]


class State(_Node):
    """Everything in ``state.json`` but the checksums."""

    schema_: Annotated[int, Field(alias="schema", ge=1)]
    step: Count
    images: Count
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    position: Count
    players: dict[Name, PlayerState]
    window: dict[Name, Annotated[int, Field(ge=1, le=_EXACT)]]
    ordinary: list[Name] = []  # written by earlier versions, for a log that now knows it
    average_images: dict[Name, Count]
    final_row: Count | None
    extra: dict[Name, Any]
    generators: Generators
    ranks: Annotated[int, Field(ge=1, le=2**20)] = 1
    config: dict[Name, Any] | None = None  # what may not change; checked when it is compared


def problem_of(state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """What is wrong with a state, or with the tensors that belong to it; empty if nothing is.

    Args:
        state: ``state.json``, its checksums verified.
        tensors: the contents of ``optimisers.safetensors``.
    """
    try:
        found = State.model_validate_json(json.dumps(state))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    if found.generators.python[1][-1] > MERSENNE:
        return "generators.python: its place is beyond its words"
    if any(not key.endswith("_extra_state") for key in found.extra):
        return "extra: holds what is no extra state of a model"
    for key in (f"window/{name}" for name in found.window):
        if key not in tensors or tensors[key].shape not in ((), (found.ranks,)):
            return f"{key}: missing or of another shape"
    needed = {f"skipped/{name}": 1 for name in found.players} | {"generator/cpu": 1}
    for key, dimensions in needed.items():
        if key not in tensors or tensors[key].ndim != dimensions:
            return f"{key}: missing or of another shape"
    for key in tensors:
        if key.startswith("optimiser/"):
            _, player, *place = key.split("/")
            index = place[0] if len(place) == 2 else ""
            if player not in found.players or not (index.isascii() and index.isdecimal()):
                return f"{key}: belongs to no player"
    return ""
