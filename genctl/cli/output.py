"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from genctl.engine.launch import launched_rank
from genctl.errors import ConfigError, GenctlError, LostProcessError


def emit(payload: dict[str, Any], json_output: bool, text: str) -> None:
    """Print a command's result: exactly one JSON object with ``--json``, else the text.

    Of several processes the first speaks.
    """
    if launched_rank():
        return
    print(json.dumps(_finite(payload)) if json_output else text, flush=True)


def note(text: str) -> None:
    """Something worth knowing that is not the result."""
    if launched_rank():
        return
    print(text, file=sys.stderr, flush=True)


def report_error(error: GenctlError, json_output: bool) -> None:
    """The thing, the reason, the remedy: one to three lines, and one for each further problem.

    Errors are shared by all processes, so the first speaks; that one was lost, each survivor says.
    """
    if launched_rank():
        if isinstance(error, LostProcessError):
            print(f"error: {error}", file=sys.stderr, flush=True)
        return
    if json_output:
        print(json.dumps({"error": error.as_dict()}), flush=True)
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
