"""Makes any preset small enough for a test, by the size knobs that all parts share."""

from __future__ import annotations

from typing import Any

from genctl.config import presets
from genctl.config.load import load_config, with_overrides
from genctl.config.schema import RunConfig

SMALL = {"width": 8, "depth": 1, "latent_dim": 4, "importance_samples": 3, "sample_steps": 3}


def shrink_node(node: Any) -> Any:
    """The same node with every size knob turned down."""
    if isinstance(node, dict):
        return {
            key: min(value, SMALL[key])
            if key in SMALL and value is not None
            else shrink_node(value)
            for key, value in node.items()
        }
    return [shrink_node(item) for item in node] if isinstance(node, list) else node


def unlike(*parts: str) -> list[str]:
    """The first preset of every combination of these parts of a model, and of what they are."""
    found: dict[tuple[Any, ...], str] = {}
    for name in presets.paths():
        model = load_config(name).model
        nodes = [model.get(part) for part in ("kind", *parts)]
        kinds = tuple(node.get("kind") if isinstance(node, dict) else node for node in nodes)
        found.setdefault(kinds, name)
    return list(found.values())


def small(preset: str, **changes: Any) -> RunConfig:
    """A preset with small networks, small batches and no clock in its cadence."""
    config = load_config(preset)
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    settings = {
        "model": shrink_node(config.model),
        "train.batch_size": 8,
        "train.steps": 2,
        "train.precision": "fp32",
        "train.checkpoint_every": 1000,
        "log.every": 1,
        "log.preview_every": 0,
        **dotted,
    }
    if config.data.spec is None or ":" in (config.data.spec or ""):
        toy = (config.data.spec or "").startswith("toy:")
        settings.setdefault("data.spec", config.data.spec if toy else "digits")
    if isinstance(config.data.size, int):
        settings["data.size"] = 16
    return with_overrides(config, settings)
