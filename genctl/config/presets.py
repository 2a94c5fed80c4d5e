"""Presets: finding, reading and extending the YAML files under ``presets/``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from genctl.config import safe_yaml
from genctl.errors import ConfigError, UsageError
from genctl.printable import printable
from genctl.reading import read_limited
from genctl.registry import suggest

_SUFFIXES = {".yaml", ".yml"}


def folder() -> Path:
    """Where the presets are: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


@cache
def paths() -> dict[str, Path]:
    """Every shipped preset by its name, sorted.

    Raises:
        RuntimeError: two files share a name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder().glob("*/*.yaml")):
        if path.stem in found:
            raise RuntimeError(f"two presets are called {path.stem}: {found[path.stem]}, {path}")
        found[path.stem] = path
    return dict(sorted(found.items()))


def parse(text: str, source: str) -> dict[str, Any]:
    """Read one YAML mapping; tags that would build objects are refused.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        value = safe_yaml.load(text)
    except safe_yaml.UnsafeYamlError as error:
        raise ConfigError(source, [f"not readable as YAML: {error}"]) from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(source, ["expected sections such as model:, data:, train:"])
    return value


def parse_value(text: str) -> Any:
    """The value of a ``--set``: YAML scalars and flow collections, or the text itself."""
    try:
        return safe_yaml.load(text)
    except safe_yaml.UnsafeYamlError:
        return text


def find(name: str) -> Path:
    """The file of a preset's name, or of a path to a YAML file.

    Raises:
        UsageError: there is no such preset or file.
    """
    if name in paths():
        return paths()[name]
    if Path(name).suffix in _SUFFIXES or "/" in name:
        as_file = _file(name)
        if as_file is not None:
            return as_file
        raise UsageError(
            printable(name), "no such file", "`genctl presets copy NAME FILE` makes one to edit"
        )
    raise UsageError(
        f"preset {printable(name)!r}",
        f"unknown{suggest(name, list(paths()))}",
        "`genctl presets list` shows them all",
    )


def read(name: str) -> dict[str, Any]:
    """A preset or file with its parent (``extends``, one level) merged in.

    Raises:
        UsageError: the preset or its parent does not exist.
        ConfigError: it cannot be read, or its parent extends another.
    """
    path = find(name)
    node = _read_file(path)
    parent = node.pop("extends", None)
    if parent is None:
        return node
    base = _read_file(_parent(path, parent))
    if "extends" in base:
        raise ConfigError(
            str(path), [f"extends: {parent!r} itself extends; one level is the limit"]
        )
    base.pop("about", None)
    return merge(base, node)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key. A node with another ``kind`` replaces the old one whole."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            replaces = "kind" in value and "kind" in old and value["kind"] != old["kind"]
            merged[key] = value if replaces else merge(old, value)
        else:
            merged[key] = value
    return merged


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        OSError: unreadable, too large, or not a file.
        UnicodeDecodeError: not UTF-8.
    """
    return read_limited(path, safe_yaml.MAX_BYTES).decode("utf-8")


def _parent(path: Path, parent: Any) -> Path:
    """The preset that a file extends: a shipped one, or a file beside or below it.

    Nothing else: a preset from elsewhere must not open files of this machine.
    """
    if isinstance(parent, str) and parent in paths():
        return paths()[parent]
    if isinstance(parent, str) and Path(parent).suffix in _SUFFIXES:
        beside = _file(str(path.parent / parent)) if not parent.startswith(("/", "~")) else None
        if beside is not None and beside.resolve().is_relative_to(path.parent.resolve()):
            return beside
    near = suggest(str(parent), list(paths()))
    reason = f"extends: {printable(parent)!r} is neither a preset nor a .yaml file beside this one"
    raise ConfigError(str(path), [f"{reason}{near}"], "`genctl presets list` shows them all")


def _file(name: str) -> Path | None:
    try:
        path = Path(os.path.expanduser(name))
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long, say
        return None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None
    return parse(text, str(path))
