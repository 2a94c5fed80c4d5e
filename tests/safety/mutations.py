"""Strategies that spoil good input, and the property that every reader must hold.

``GENCTL_FUZZ=10000`` gives every fuzz test that many new examples; without it a few, always the same.
"""

from __future__ import annotations

import copy
import os
import warnings
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from genctl.errors import GenctlError
from genctl.printable import is_printable

EXAMPLES = int(os.environ.get("GENCTL_FUZZ", "0"))


def fuzz(examples):
    """A few fixed examples, or as many new ones as the environment asks for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def contract_errors():
    """Success, or an error of the contract that may be printed; anything else is a bug."""
    caught = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except GenctlError as error:
        caught = error
    if caught is not None:
        assert caught.exit_code in (1, 2, 4, 5)
        assert caught.thing
        assert caught.reason
        assert len(str(caught)) < 50_000
        assert is_printable(f"{caught} {caught.remedy}"), repr(str(caught))


NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400]),
    st.floats(),
    st.sampled_from([1e308, 5e-324, float("nan"), float("inf"), -0.0]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=12))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(node, path=()):
    """Every path in nested mappings and lists."""
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else ()
    for key, value in enumerate(node) if isinstance(node, list) else items:
        found += places(value, (*path, key))
    return found


@st.composite
def spoiled(draw, node, values=VALUES):
    """A nested value with a few places changed, removed, or added to."""
    node = copy.deepcopy(node)
    for _ in range(draw(st.integers(1, 3))):
        known = places(node)
        if not known:
            break
        *parents, last = draw(st.sampled_from(known))
        here = node
        for key in parents:
            here = here[key]
        change = draw(st.sampled_from(["set", "set", "set", "remove", "add"]))
        if change == "set":
            here[last] = draw(values)
        elif change == "remove":
            del here[last]
        elif isinstance(here, dict):
            here[draw(st.text(max_size=10))] = draw(values)
        else:
            here.insert(draw(st.integers(0, len(here))), draw(values))
    return node


@st.composite
def damaged(draw, data, extra=()):
    """Bytes with a few bits flipped, spans cut, repeated or replaced."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(found)))
        length = draw(st.one_of(st.integers(1, 8), st.integers(1, max(1, len(found)))))
        change = draw(st.sampled_from(["flip", "flip", "set", "set", "cut", "end", "repeat", "in"]))
        if change == "flip" and at < len(found):
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "set":
            new = draw(st.one_of(st.binary(max_size=8), st.sampled_from(_ODD)))
            found[at : at + len(new)] = new
        elif change == "cut":
            del found[at : at + length]
        elif change == "end":
            del found[at:]
        elif change == "repeat":
            found[at:at] = found[at : at + min(length, 4096)]
        elif change == "in":
            found[at:at] = draw(st.one_of(st.binary(max_size=8), st.sampled_from([*_ODD, *extra])))
    return bytes(found)


_ODD = (
    b"\xff" * 4,
    b"\0" * 8,
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"-1",
    b"99999999999",
    b"\x1b[2J",
)
