"""What the shipped presets offer: names, families, capabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from genctl import registry
from genctl.config import presets


@dataclass(frozen=True)
class PresetInfo:
    """One line of the list of presets."""

    name: str
    family: str
    about: dict[str, Any]
    capabilities: list[str]
    data: str | None
    path: Path


def model_capabilities(kind: str) -> list[str]:
    """What a kind of model can do besides training."""
    from genctl.contracts import capabilities

    return capabilities(registry.get("model", kind).build)  # type: ignore[arg-type]


@cache
def catalogue() -> dict[str, PresetInfo]:
    """Every preset, by name. Imports the models to learn what they can do."""
    found = {}
    for name, path in presets.paths().items():
        node = presets.read(name)
        found[name] = PresetInfo(
            name=name,
            family=path.parent.name,
            about=node.get("about", {}),
            capabilities=model_capabilities(node["model"]["kind"]),
            data=node.get("data", {}).get("spec"),
            path=path,
        )
    return found


def presets_that_can(capability: str) -> list[str]:
    """Names of the presets whose model has a capability."""
    return [name for name, info in catalogue().items() if capability in info.capabilities]
