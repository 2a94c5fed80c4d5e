"""The parts of genctl by name. A constructor's signature is its schema.

A part registers itself with a decorator where it is defined::

    @register("generator", "dcgan")
    class DCGANGenerator(nn.Module):
        def __init__(self, latent_dim: int, shape: tuple[int, ...], *, width: int = 64) -> None: ...

Positional parameters are *facts* that the parent supplies (shape, classes, latent size).
Keyword-only parameters are the *schema*: what YAML may set. A keyword-only parameter annotated
``Annotated[Callable[..., T], Part("slot")]`` is itself a part; it is written ``{kind: name, …}``
and arrives as a factory with its own keywords bound, to be called with the facts.

Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic

from genctl.errors import ConfigError

ROOMS = (
    "genctl.distributions",
    "genctl.objectives",
    "genctl.networks",
    "genctl.models",
    "genctl.engine.optimisers",
    "genctl.engine.schedules",
)
"""Where parts are defined; scanned once, so that no table of parts has to be kept."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Part:
    """Marks a keyword-only parameter as a part of the named slot."""

    slot: str


@dataclass(frozen=True)
class PartDefault:
    """The default of a part parameter: a kind and its keywords, callable like any factory."""

    slot: str
    node: Mapping[str, Any]

    def __call__(self, *facts: Any) -> Any:
        """Build the default part from the facts."""
        return factory(self.slot, resolve(self.slot, dict(self.node), self.slot)[0])(*facts)


def default(slot: str, kind: str, **keywords: Any) -> Any:
    """The part that stands in when a configuration names none; callable like any factory."""
    return PartDefault(slot, {"kind": kind, **keywords})


@dataclass(frozen=True)
class Parameter:
    """One keyword-only parameter of a part."""

    name: str
    hint: Any
    default: Any  # inspect.Parameter.empty when required
    slot: str | None  # the slot, when the parameter is a part or a list of parts
    many: bool
    optional: bool


@dataclass(frozen=True)
class Entry:
    """A registered part."""

    slot: str
    name: str
    build: Callable[..., Any]

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The keyword-only parameters, in order: the schema."""
        target = self.build.__init__ if inspect.isclass(self.build) else self.build
        hints = typing.get_type_hints(target, include_extras=True)
        found = {}
        for name, parameter in inspect.signature(self.build).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                slot, many, optional = _part_of(hints[name])
                found[name] = Parameter(name, hints[name], parameter.default, slot, many, optional)
        return found

    @functools.cached_property
    def schema(self) -> type[pydantic.BaseModel]:
        """The strict pydantic model of the parameters that are plain values."""
        fields: dict[str, Any] = {
            p.name: (p.hint, ... if p.default is inspect.Parameter.empty else p.default)
            for p in self.parameters.values()
            if p.slot is None
        }
        configuration = pydantic.ConfigDict(extra="forbid", strict=True, protected_namespaces=())
        return pydantic.create_model(self.name, __config__=configuration, **fields)

    @property
    def about(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.build) or "").split("\n", 1)[0]

    @property
    def where(self) -> str:
        """Module path and line of the definition."""
        target = inspect.unwrap(self.build)
        return f"{target.__module__.replace('.', '/')}.py:{inspect.getsourcelines(target)[1]}"


_entries: dict[tuple[str, str], Entry] = {}


def register(slot: str, name: str) -> Callable[[F], F]:
    """Register a class or function as ``name`` in ``slot``; a duplicate is a programming error."""

    def decorate(build: F) -> F:
        known = _entries.get((slot, name))
        if known is not None and known.build.__qualname__ != build.__qualname__:
            raise RuntimeError(f"{slot} {name!r} is registered twice: {known.where}")
        _entries[slot, name] = Entry(slot, name, build)
        return build

    return decorate


@functools.cache
def discover() -> None:
    """Import every module that may define parts."""
    for room in ROOMS:
        module = importlib.import_module(room)
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), room + "."):
            importlib.import_module(found.name)


def slots() -> list[str]:
    """All slots that have at least one part."""
    discover()
    return sorted({slot for slot, _ in _entries})


def names(slot: str) -> list[str]:
    """The kinds registered in a slot, sorted."""
    discover()
    return sorted(name for found, name in _entries if found == slot)


def get(slot: str, name: str) -> Entry:
    """The entry of a part.

    Raises:
        ConfigError: the slot has no such part; the nearest name is suggested.
    """
    discover()
    entry = _entries.get((slot, name))
    if entry is None:
        raise ConfigError(slot, [f"no {slot} is called {name!r}{suggest(name, names(slot))}"])
    return entry


def suggest(word: str, valid: Sequence[str]) -> str:
    """``; did you mean 'x'?`` or the list of valid names, for the end of a message."""
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid: {', '.join(sorted(valid))}" if valid else ""


def resolve(slot: str, node: Any, path: str) -> tuple[dict[str, Any], list[str]]:
    """Validate a node and fill in every default.

    Args:
        slot: the slot the part must come from.
        node: ``{"kind": name, …}``, or the bare name.
        path: where the node stands in the configuration, for the messages.

    Returns:
        The complete node, and all problems found in it and in its parts.
    """
    if isinstance(node, str):
        node = {"kind": node}
    if not isinstance(node, Mapping):
        return {}, [f"{path}: expected a {slot} such as {{kind: …}}, found {node!r}"]
    kind = node.get("kind")
    if not isinstance(kind, str):
        return {}, [f"{path}.kind: missing{suggest('', names(slot))}"]
    if kind not in names(slot):
        return {}, [f"{path}.kind: no {slot} is called {kind!r}{suggest(kind, names(slot))}"]
    entry = get(slot, kind)
    plain = {key: value for key, value in node.items() if key != "kind"}
    parts = {p.name: p for p in entry.parameters.values() if p.slot is not None}
    given = {key: plain.pop(key) for key in list(plain) if key in parts}
    values, problems = validate(entry.schema, plain, path, extra_names=list(parts))
    problems = [text + _owners(slot, text, path) for text in problems]
    resolved: dict[str, Any] = {"kind": kind, **values}
    for name, parameter in parts.items():
        value = given.get(name, _default_node(parameter))
        resolved[name], found = _resolve_part(parameter, value, f"{path}.{name}")
        problems += found
    return {key: resolved[key] for key in ("kind", *entry.parameters) if key in resolved}, problems


def _owners(slot: str, problem: str, path: str) -> str:
    """Which other parts of a slot have the key that a problem calls unknown."""
    key = problem.removeprefix(f"{path}.").partition(":")[0]
    if ": unknown key" not in problem or "did you mean" in problem:
        return ""
    owners = [name for name in names(slot) if key in get(slot, name).parameters]
    return f"; it belongs to {', '.join(owners)}" if owners else ""


def validate(
    schema: type[pydantic.BaseModel],
    values: Mapping[str, Any],
    path: str,
    extra_names: Sequence[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Check plain values against a strict schema; returns them completed, and all problems."""
    prefix = f"{path}." if path else ""
    try:
        # JSON mode: strict about types, and lists may still fill tuples.
        text = json.dumps(dict(values), default=str)
    except (TypeError, ValueError, RecursionError) as error:
        return {}, [f"{path or 'configuration'}: not plain values: {error}"]
    try:
        return schema.model_validate_json(text).model_dump(mode="json"), []
    except pydantic.ValidationError as error:
        problems = []
        for item in error.errors():
            where = prefix + ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                valid = [*_fields_at(schema, item["loc"][:-1]), *extra_names]
                problems.append(f"{where}: unknown key{suggest(str(item['loc'][-1]), valid)}")
            elif item["type"] == "missing":
                problems.append(f"{where}: missing")
            else:
                found = item["input"]
                near = ""
                if item["type"] == "literal_error" and isinstance(found, str):
                    near = suggest(found, re.findall(r"'([^']+)'", item["ctx"]["expected"]))
                    near = near if "did you mean" in near else ""  # the names are in the message
                problems.append(f"{where}: {item['msg'].lower()}, found {found!r}{near}")
        return {}, problems


def factory(slot: str, node: Mapping[str, Any]) -> Callable[..., Any]:
    """The constructor of a resolved node, keywords and parts bound; call it with the facts."""
    entry = get(slot, node["kind"])
    keywords: dict[str, Any] = {}
    for name, parameter in entry.parameters.items():
        value = node[name]
        if parameter.slot is None:
            keywords[name] = tuple(value) if isinstance(value, list) else value
        elif parameter.many:
            keywords[name] = [factory(parameter.slot, item) for item in value]
        else:
            keywords[name] = None if value is None else factory(parameter.slot, value)
    return functools.partial(entry.build, **keywords)


def _resolve_part(parameter: Parameter, value: Any, path: str) -> tuple[Any, list[str]]:
    assert parameter.slot is not None
    if value is inspect.Parameter.empty:
        return None, [f"{path}: missing{suggest('', names(parameter.slot))}"]
    if value is None:
        return None, [] if parameter.optional else [f"{path}: may not be null"]
    if not parameter.many:
        base = parameter.default.node if isinstance(parameter.default, PartDefault) else {}
        if base and isinstance(value, Mapping) and value.get("kind", base["kind"]) == base["kind"]:
            value = {**base, **value}  # a key of the default part, changed alone
        return resolve(parameter.slot, value, path)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [], [f"{path}: expected a list of {{kind: …}}, found {value!r}"]
    pairs = [resolve(parameter.slot, item, f"{path}.{i}") for i, item in enumerate(value)]
    return [pair[0] for pair in pairs], [problem for pair in pairs for problem in pair[1]]


def _default_node(parameter: Parameter) -> Any:
    if isinstance(parameter.default, PartDefault):
        return dict(parameter.default.node)
    if parameter.many and parameter.default is not inspect.Parameter.empty:
        return [dict(item.node) for item in parameter.default]
    return parameter.default


def _part_of(hint: Any) -> tuple[str | None, bool, bool]:
    """The slot named in an annotation, whether it is a list, and whether it may be None."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Part):
                return mark.slot, False, False
        return None, False, False
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(hint):
            slot, many, _ = _part_of(option)
            if slot is not None:
                return slot, many, type(None) in typing.get_args(hint)
        return None, False, False
    if origin in (list, Sequence):
        slot, _, _ = _part_of(typing.get_args(hint)[0])
        return slot, slot is not None, False
    return None, False, False


def _fields_at(schema: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the (possibly nested) model that an error location points into."""
    hint: Any = schema
    for part in loc:
        if _is_model(hint):
            field = hint.model_fields.get(str(part))
            hint = None if field is None else field.annotation
        else:  # a mapping or a list: what it holds
            hint = next(iter(typing.get_args(hint)[-1:]), None)
    return list(hint.model_fields) if _is_model(hint) else []


def _is_model(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, pydantic.BaseModel)
