"""The registry: a signature is a schema, and every problem is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import pytest

from genctl import registry
from genctl.registry import Part, default, register


class Leaf:
    def __init__(self, size: int, *, weight: float = 1.0, mode: str = "a") -> None:
        self.size, self.weight, self.mode = size, weight, mode


class Tree:
    def __init__(
        self,
        size: int,
        *,
        leaf: Annotated[Callable[[int], Leaf], Part("test-leaf")] = default(
            "test-leaf", "plain", weight=2.0
        ),
        extra: Annotated[Callable[[int], Leaf], Part("test-leaf")] | None = None,
        leaves: Sequence[Annotated[Callable[[int], Leaf], Part("test-leaf")]] = (),
        betas: tuple[float, float] = (0.5, 0.9),
    ) -> None:
        self.leaf, self.betas = leaf(size), betas
        self.extra = extra(size) if extra else None
        self.leaves = [make(size) for make in leaves]


@pytest.fixture(autouse=True)
def _parts():
    registry.discover()
    before = dict(registry._entries)
    register("test-leaf", "plain")(Leaf)
    register("test-tree", "tree")(Tree)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def test_defaults_are_filled_in_down_to_the_parts():
    node, problems = registry.resolve("test-tree", "tree", "model")
    assert problems == []
    assert node == {
        "kind": "tree",
        "leaf": {"kind": "plain", "weight": 2.0, "mode": "a"},
        "extra": None,
        "leaves": [],
        "betas": [0.5, 0.9],
    }


def test_facts_come_from_the_parent_and_taste_from_the_node():
    node, _ = registry.resolve(
        "test-tree",
        {"kind": "tree", "leaf": "plain", "leaves": [{"kind": "plain", "mode": "b"}]},
        "",
    )
    tree = registry.factory("test-tree", node)(7)
    assert (tree.leaf.size, tree.leaf.weight) == (7, 1.0)
    assert tree.leaves[0].mode == "b"
    assert tree.betas == (0.5, 0.9)
    assert tree.extra is None


def test_a_key_of_a_default_part_may_be_changed_alone():
    for change in ({"mode": "b"}, {"kind": "plain", "mode": "b"}):
        node, problems = registry.resolve("test-tree", {"kind": "tree", "leaf": change}, "model")
        assert problems == []
        assert node["leaf"] == {"kind": "plain", "weight": 2.0, "mode": "b"}


def test_a_default_part_builds_itself_without_a_configuration():
    assert Tree(3).leaf.weight == 2.0


def test_all_problems_at_once_with_path_and_nearest_name():
    _, problems = registry.resolve(
        "test-tree",
        {
            "kind": "tree",
            "leef": 1,
            "betas": [1, "x"],
            "leaf": {"kind": "plian"},
            "leaves": [{"weight": 1}],
        },
        "model",
    )
    text = "\n".join(problems)
    assert len(problems) == 4
    assert "model.leef: unknown key; did you mean 'leaf'?" in text
    assert "model.leaf.kind: no test-leaf is called 'plian'; did you mean 'plain'?" in text
    assert "model.leaves.0.kind: missing" in text
    assert "model.betas.1" in text


@pytest.mark.parametrize("value", ["1.0", True, [1.0], None])
def test_types_are_strict(value):
    _, problems = registry.resolve("test-leaf", {"kind": "plain", "weight": value}, "leaf")
    assert len(problems) == 1
    assert problems[0].startswith("leaf.weight:")


def test_whole_numbers_serve_as_floats():
    node, problems = registry.resolve("test-leaf", {"kind": "plain", "weight": 3}, "leaf")
    assert problems == []
    assert node["weight"] == 3


def test_a_duplicate_name_is_a_programming_error():
    with pytest.raises(RuntimeError, match="twice"):
        register("test-leaf", "plain")(Tree)


def test_positional_facts_are_not_configurable():
    _, problems = registry.resolve("test-leaf", {"kind": "plain", "size": 3}, "leaf")
    assert "leaf.size: unknown key" in problems[0]


def test_every_registered_part_has_a_schema_and_a_docstring():
    entries = [e for e in registry._entries.values() if not e.slot.startswith("test-")]
    assert len(entries) >= 30
    for entry in entries:
        assert entry.about, entry
        assert entry.schema.model_config["extra"] == "forbid"
        assert ".py:" in entry.where
