"""What a preset is made of: its parts and where they are defined, its size, its problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genctl import registry
from genctl.config import presets
from genctl.config.load import load_config
from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel
from genctl.data.dataset import TRIANGLES
from genctl.data.spec import parse_spec
from genctl.data.toys import make_toy
from genctl.data.triangles import make_triangles
from genctl.engine.construction import check_players
from genctl.errors import ConfigError, GenctlError
from genctl.types import DataSpec

NAMED_SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "svhn": (3, 32, 32),
}
"""Shapes of data sets that are known without opening them; all of them have ten classes."""

LABELLED = "FOLDER_OF_CLASSES"
"""What a preset's command calls data of the user's that must have labels."""
USUAL_EDGE = 64
"""For presets that leave the size to the data, where the data is the user's."""


@dataclass(frozen=True)
class PartPlace:
    """Where one part of a preset is defined: ``model.generator``, ``dcgan``, ``file.py:line``."""

    path: str
    kind: str
    where: str


def example_spec(config: RunConfig) -> DataSpec:
    """Facts like those of the data the preset is meant for, to build its model without data."""
    spec = (config.data.spec or _data_in(str(config.about.get("command", "")))).split("@")[0]
    name = spec.split(":")[0]
    if name == "toy":
        source = parse_spec(spec)
        if source.toy == TRIANGLES:
            edge = None if config.data.size == "native" else config.data.size
            size = make_triangles(source.options, edge).size
            return DataSpec("image", (1, size, size))
        dimensions = make_toy(source.toy, source.options).dimensions
        return DataSpec("points", (dimensions,), levels=0)
    shape = NAMED_SHAPES.get(name, (3, USUAL_EDGE, USUAL_EDGE))
    if config.data.size != "native":
        shape = (shape[0], config.data.size, config.data.size)
    classes = 10 if name in NAMED_SHAPES or name == LABELLED else 0
    return DataSpec("image", shape, classes, levels=256 if config.data.binarise == "none" else 2)


def build_example(config: RunConfig, spec: DataSpec) -> GenerativeModel:
    """The preset's model: without memory for its weights where its constructor allows that."""
    make = registry.factory("model", config.model)
    try:
        with torch.device("meta"):
            model = make(spec)
    except (NotImplementedError, RuntimeError):  # it computes with its weights when it is built
        model = make(spec)
    assert isinstance(model, GenerativeModel)
    return model


def parameter_counts(model: GenerativeModel) -> dict[str, int]:
    """Trainable numbers of each player."""
    counts = {}
    for player, modules in model.players.items():
        found = {id(p): p for m in modules for p in model.get_submodule(m).parameters()}
        counts[player] = sum(p.numel() for p in found.values())
    return counts


def places(config: RunConfig) -> list[PartPlace]:
    """The model and every part of it, and the players' optimisers, with file and line."""
    found = list(_places("model", config.model, "model"))
    for player, node in config.optim.items():
        found += _places("optimiser", node, f"optim.{player}")
    return found


def problems_of(name: str, overrides: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong with a preset or a file; empty when it can be trained."""
    try:
        config = load_config(name, overrides)
    except ConfigError as error:
        return list(error.problems)
    except GenctlError as error:
        return [f"{error.reason}; {error.remedy}" if error.remedy else error.reason]
    try:
        check_players(config, build_example(config, example_spec(config)))
    except ConfigError as error:
        return list(error.problems)
    except GenctlError as error:
        return [str(error)]
    return []


def copy_preset(name: str, target: Path) -> Path:
    """Copy a preset's file, comments included, to edit it; never over another file.

    Raises:
        FileExistsError: something is there already.
    """
    source = presets.find(name)
    if target.is_dir():
        target = target / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text(encoding="utf-8")
    with target.open("x", encoding="utf-8") as file:
        file.write(text)
    return target


def _places(slot: str, node: Mapping[str, Any], path: str) -> Iterator[PartPlace]:
    entry = registry.get(slot, node["kind"])
    yield PartPlace(path, entry.name, entry.where)
    for name, parameter in entry.parameters.items():
        value = node.get(name)
        if parameter.slot is None or value is None:
            continue
        for i, item in enumerate(value if parameter.many else [value]):
            where = f"{path}.{name}.{i}" if parameter.many else f"{path}.{name}"
            yield from _places(parameter.slot, item, where)


def _data_in(command: str) -> str:
    """The argument of ``--data`` in a command line, or nothing."""
    words = command.split()
    return words[words.index("--data") + 1] if "--data" in words[:-1] else ""
