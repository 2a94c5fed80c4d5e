"""From a preset, a file and overrides to one validated configuration.

Precedence, lowest first: defaults, preset (or file, with what it extends), ``--set``, dedicated
options. All problems are reported at once, each with its path and the nearest valid name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from genctl import registry
from genctl.config import presets
from genctl.config.schema import RunConfig
from genctl.errors import ConfigError, DataError, UsageError
from genctl.printable import is_printable, printable

MAX_PROBLEMS = 50
"""Problems told of one configuration; a longer list helps nobody."""
_DEPTH = 20
_LARGEST = 2**63 - 1
_LONGEST_KEY = 200


def load_config(
    preset: str, overrides: Sequence[str] | Mapping[str, Any] = (), *, name: str | None = None
) -> RunConfig:
    """Resolve a preset.

    Args:
        preset: a preset's name or the path of a YAML file.
        overrides: ``["train.steps=100", …]``, or the same as a mapping of dotted paths to values.
        name: what the run calls its preset; by default the preset's name or the file's stem.

    Raises:
        UsageError: unknown preset, or an override that is not ``path=value``.
        ConfigError: unknown keys or wrong types, all of them.
    """
    node = presets.read(preset)
    for path, value in _pairs(overrides):
        _set(node, path, value)
    return validate(node, preset, name=name or Path(preset).stem)


def validate(node: Mapping[str, Any], source: str, *, name: str | None = None) -> RunConfig:
    """Check a whole configuration and fill in every default.

    Raises:
        ConfigError: with every problem found.
    """
    node = {"preset": name, **node} if name else dict(node)
    strange = _strange(node)
    if strange:
        raise ConfigError(source, _told(strange))
    model, problems = registry.resolve("model", node.get("model", {}), "model")
    optim: dict[str, Any] = {}
    players = node.get("optim") or {}
    if isinstance(players, Mapping):
        for player, setting in players.items():
            optim[player], found = registry.resolve("optimiser", setting, f"optim.{player}")
            problems += found
    else:
        problems.append(f"optim: expected players, found {players!r}")
    rest = {key: value for key, value in node.items() if key not in ("model", "optim")}
    rest["model"] = model or {}
    values, found = registry.validate(RunConfig, rest, "")
    problems += found
    if problems:
        remedy = "`genctl presets show NAME` prints every key with its value"
        raise ConfigError(source, _told(sorted(problems)), remedy)
    return RunConfig.model_validate({**values, "optim": optim})


def with_overrides(config: RunConfig, overrides: Sequence[str] | Mapping[str, Any]) -> RunConfig:
    """The same configuration with some keys changed, validated again."""
    node = config.model_dump(mode="json")
    for path, value in _pairs(overrides):
        _set(node, path, value)
    return validate(node, config.preset or "config")


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML, sections in their usual order."""
    node = config.model_dump(mode="json", exclude_none=False)
    return yaml.safe_dump(node, sort_keys=False, allow_unicode=True, default_flow_style=None)


def read_yaml(path: Path) -> RunConfig:
    """The configuration of an existing run.

    Raises:
        DataError: missing or damaged.
    """
    try:
        node = presets.parse(presets.read_text(path), str(path))
        return validate(node, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "is this a run directory?") from None
    except ConfigError as error:
        raise DataError(
            str(path), error.reason, "written by another version of genctl, or edited"
        ) from None


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted paths whose values differ, with both values."""
    a, b = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings and lists as dotted paths to plain values; empty ones stay as they are."""
    if isinstance(node, Mapping) and node:
        items = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        items = [(str(i), value) for i, value in enumerate(node)]
    else:
        return {path: node}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{path}.{key}" if path else key)
    return flat


def _strange(node: Any, path: str = "", depth: int = 0) -> list[str]:
    """What no part can want: odd keys, endless nesting, unprintable or huge values."""
    if depth > _DEPTH:
        return [f"{path}: nested too deeply"]
    if isinstance(node, Mapping):
        items = [(str(key), key, value) for key, value in node.items()]
    elif isinstance(node, list):
        items = [(str(i), str(i), value) for i, value in enumerate(node)]
    else:
        problem = _strange_value(node)
        return [f"{path}: {problem}"] if problem else []
    found = []
    for name, key, value in items:
        where = f"{path}.{name}" if path else name
        if not isinstance(key, str):
            found.append(f"{where}: a key must be text, found {key!r}")
        elif len(key) > _LONGEST_KEY or not is_printable(key):
            found.append(f"{where}: a key must be at most {_LONGEST_KEY} printable characters")
        else:
            found += _strange(value, where, depth + 1)
    return found


def _strange_value(value: Any) -> str:
    if isinstance(value, str) and not is_printable(value.replace("\n", "").replace("\t", "")):
        return f"holds characters that cannot be shown: {printable(value, 80)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be finite, found {value}"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "is more than 64 bits can hold"
    return ""


def _told(problems: list[str]) -> list[str]:
    """The problems fit for printing: each one line, and not without end."""
    rest = len(problems) - MAX_PROBLEMS
    more = [f"and {rest:,} more"] if rest > 0 else []
    return [printable(problem, 500) for problem in problems[:MAX_PROBLEMS]] + more


def _pairs(overrides: Sequence[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs = []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise UsageError(
                f"--set {printable(text)}", "expected path=value", "e.g. --set train.steps=1000"
            )
        pairs.append((path.strip(), presets.parse_value(value)))
    return pairs


def _set(node: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path. A bare name in place of a part's node swaps its kind."""
    *parents, last = path.split(".")
    here: Any = node
    for part in parents:
        if isinstance(here, list) and (place := _place(part, here)) is not None:
            here = here[place]
            continue
        child = here.get(part) if isinstance(here, dict) else None
        if isinstance(child, str):  # the short form of {kind: child}
            child = {"kind": child}
        elif not isinstance(child, dict | list):
            child = {}
        if not isinstance(here, dict):
            raise UsageError(f"--set {printable(path)}", f"{part!r} is not inside a mapping")
        here[part] = child
        here = child
    if isinstance(here, list) and (place := _place(last, here)) is not None:
        here[place] = value
    elif isinstance(here, dict):
        swaps = last == "kind" and "kind" in here and here["kind"] != value
        if swaps:
            here.clear()
        here[last] = value
    else:
        raise UsageError(f"--set {printable(path)}", f"{last!r} is not inside a mapping")


def _place(text: str, items: list[Any]) -> int | None:
    """The index that a part of a dotted path names in a list, if it does."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        return None
    return int(text) if int(text) < len(items) else None
