"""Presets: finding, reading and extending the YAML files under ``presets/``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from genctl.errors import ConfigError, UsageError
from genctl.registry import suggest


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 as text; every user means the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$"),
    list("-+0123456789."),
)


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
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(source, [f"not readable as YAML: {reason}"]) from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(source, ["expected sections such as model:, data:, train:"])
    return value


def parse_value(text: str) -> Any:
    """The value of a ``--set``: YAML scalars and flow collections, or the text itself."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def find(name: str) -> Path:
    """The file of a preset's name, or of a path to a YAML file.

    Raises:
        UsageError: there is no such preset or file.
    """
    if name in paths():
        return paths()[name]
    as_file = Path(name).expanduser()
    if as_file.suffix in {".yaml", ".yml"} or "/" in name:
        if as_file.is_file():
            return as_file
        raise UsageError(name, "no such file", "`genctl presets copy NAME FILE` makes one to edit")
    raise UsageError(
        f"preset {name!r}",
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
    try:
        base = _read_file(find(str(parent)))
    except UsageError as error:
        raise ConfigError(str(path), [f"extends: {error}"], error.remedy) from None
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


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None
    return parse(text, str(path))
