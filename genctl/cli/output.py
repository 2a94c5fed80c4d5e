"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from genctl.engine.launch import launched_rank
from genctl.errors import ConfigError, GenctlError, LostProcessError
from genctl.printable import Unfailing, say

_lost: list[OSError | ValueError] = []
"""Why results could not be written."""


def emit(payload: dict[str, Any], json_output: bool, text: str) -> None:
    """Print a command's result: exactly one JSON object with ``--json``, else the text.

    Of several processes the first speaks.
    """
    if launched_rank():
        return
    _print(json.dumps(_finite(payload)) if json_output else text)


def _print(text: str) -> None:
    """A line on stdout; that it cannot be written is remembered, and told unless nobody reads."""
    out = Unfailing(sys.stdout)
    print(text, file=out, flush=True)
    if out.error is not None:
        _lost.append(out.error)
        if not isinstance(out.error, BrokenPipeError):  # the reader went away, as `| head` does
            reason = getattr(out.error, "strerror", None) or str(out.error)
            say(f"error: the result: {reason}\nremedy: send it to another place")


@contextmanager
def unwritten() -> Iterator[list[OSError | ValueError]]:
    """Collects why results of the block could not be written."""
    _lost.clear()
    yield _lost


def conclude(result: dict[str, Any], json_output: bool, text: str) -> int:
    """Print a result that may tell of a failure under ``error``, such as a gate that is not met.

    Returns:
        The exit code.
    """
    emit(result, json_output, text)
    error = result.get("error")
    if error is None:
        return 0
    if not json_output:
        note(f"error: {error['thing']}: {error['reason']}")
    return int(error["code"])


def note(text: str) -> None:
    """Something worth knowing that is not the result."""
    if not launched_rank():
        say(text)


def report_error(error: GenctlError, json_output: bool) -> None:
    """The thing, the reason, the remedy: one to three lines, and one for each further problem.

    What all processes know of, the first says; any other error, who met it, since nobody else can.
    """
    if launched_rank():
        if isinstance(error, LostProcessError):  # which names the process
            say(f"error: {error}")
        elif not error.said_by_first:
            say(f"error: process {launched_rank()}: {error}")
        return
    if json_output:
        _print(json.dumps({"error": error.as_dict()}))
        return
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        note(f"error: {error.thing}: {len(error.problems)} problems")
        for problem in error.problems:
            note(f"  {problem}")
    else:
        note(f"error: {error}")
    if error.remedy:
        note(f"remedy: {error.remedy}")


def _finite(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
