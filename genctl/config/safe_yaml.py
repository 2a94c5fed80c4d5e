"""YAML of unknown origin: plain values only, of bounded size, each key once.

Refused: every explicit tag (``!!python/object`` and all others), aliases that refer to themselves
or that would unfold to more than ``MAX_NODES`` values, nesting deeper than ``MAX_DEPTH``, a key
given twice, integers beyond 64 bits. Dates and base-60 numbers are text: nobody means them here.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from genctl.printable import printable

MAX_BYTES = 4 * 2**20
"""Of one file: a thousand times the largest preset; the names of 65,536 classes still fit."""
MAX_NODES = 200_000
MAX_DEPTH = 50
_LARGEST = 2**63 - 1

# What a malformed scalar can raise in the constructors, besides YAML's own errors.
_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
_TAG = "tag:yaml.org,2002:"
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


class UnsafeYamlError(ValueError):
    """The text cannot be read; the message says why, in one line."""


class _Loader(yaml.SafeLoader):
    """SafeLoader, bounded. YAML 1.1 reads 1e-4 as text; every user means the number."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose as usual, counting how many values a node would be if aliases were unfolded."""
        alias = self.check_event(yaml.AliasEvent)
        tag = getattr(self.peek_event(), "tag", None)
        if tag not in (None, "!"):
            raise UnsafeYamlError(f"the tag {printable(tag, 60)} is refused: only plain values")
        if len(self.sizes) > MAX_NODES:
            raise UnsafeYamlError(f"holds more than {MAX_NODES:,} values")
        if self.depth >= MAX_DEPTH:
            raise UnsafeYamlError(f"nested more than {MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self.sizes:
            raise UnsafeYamlError("an alias refers to what holds it")
        if node is not None and not alias:
            self.sizes[id(node)] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        size = 1 + sum(self.sizes[id(child)] for child in children)
        if size > MAX_NODES:
            raise UnsafeYamlError(f"holds more than {MAX_NODES:,} values")
        return size


def load(text: str) -> Any:
    """Read plain values.

    Raises:
        UnsafeYamlError: not YAML, or YAML that is refused.
    """
    if len(text) > MAX_BYTES:
        raise UnsafeYamlError(f"{len(text):,} characters, more than {MAX_BYTES:,}")
    try:
        return yaml.load(text, Loader=_Loader)
    except UnsafeYamlError:
        raise
    except _ERRORS as error:
        raise UnsafeYamlError(printable(" ".join(str(error).split()), 400)) from None


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UnsafeYamlError(f"line {line}: {printable(key.value, 60)} is given twice")
            seen.add(key.value)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if abs(value) > _LARGEST:
        raise UnsafeYamlError(f"{printable(node.value, 40)} is more than 64 bits can hold")
    return value


_Loader.yaml_constructors = {
    tag: build
    for tag, build in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in _PLAIN
}
_Loader.add_constructor(f"{_TAG}int", _integer)
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].removeprefix(_TAG) in ("null", "bool", "merge")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}int",
    re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][-+]?\d+)?$"
        r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
        re.ASCII,
    ),
    list("-+0123456789."),
)
