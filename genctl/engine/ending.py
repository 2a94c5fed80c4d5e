"""Why a run stopped, kept in its ``environment.json``; nothing there: it trains, or was killed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from genctl.engine.durable import write_atomically
from genctl.engine.run_directory import RunDirectory
from genctl.reading import read_limited

LARGEST = 2**20
"""Bytes of an ``environment.json``; an ordinary one has a thousand."""
KEY = "ended"
WORDS = {
    "steps": "all of its steps were done",
    "time": "its time limit was up",
    "signal": "a signal asked it to stop",
    "nonfinite": "numbers were no longer finite",
    "patience": "its score did not improve any more",
    "memory": "memory ran out",
    "error": "an error stopped it",
}
"""Every ``stopped_by`` of a run, and the two ways to fail, in words."""


@dataclass(frozen=True)
class Ending:
    """``by``: one of ``WORDS``; ``step``: the last one that was done."""

    by: str
    step: int

    @property
    def words(self) -> str:
        """The reason as a clause."""
        return WORDS[self.by]


def record(run: RunDirectory, ending: Ending | None) -> None:
    """Write why a run stopped, or with None that it goes on.

    It is worth no run: where the file is gone, damaged or cannot be written, it stays as it is.
    """
    facts = _read(run)
    if facts is None or (ending is None and KEY not in facts):
        return
    facts.pop(KEY, None)
    if ending is not None:
        facts[KEY] = {"by": ending.by, "step": ending.step}
    with suppress(OSError):
        write_atomically(run.path / "environment.json", json.dumps(facts, indent=1) + "\n")


def ending_of(run: RunDirectory) -> Ending | None:
    """Why a run stopped, None where that was not recorded."""
    said = (_read(run) or {}).get(KEY)
    if not isinstance(said, dict):
        return None
    by, step = said.get("by"), said.get("step")
    if not isinstance(by, str) or by not in WORDS or type(step) is not int or step < 0:
        return None
    return Ending(by, step)


def _read(run: RunDirectory) -> dict[str, Any] | None:
    try:
        facts = json.loads(read_limited(run.path / "environment.json", LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None
