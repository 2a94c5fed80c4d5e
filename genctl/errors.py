"""Errors a user can cause: each knows the thing, the reason, the remedy and its exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from genctl.printable import printable

_LONGEST = 20_000


class GenctlError(Exception):
    """A mistake that is answered in one to three lines, never with a traceback.

    Args:
        thing: what the error is about (a path, a key, a preset).
        reason: what is wrong with it, found against expected.
        remedy: what the user can do next; or how to find it out, where that takes a while and the
            error may never be shown.
    """

    exit_code = 1
    name = "failed"
    said_by_first = False
    """Whether every process of a run has met it or was told of it, so that the first says it for
    all; any other is said by who met it."""

    def __init__(self, thing: str, reason: str, remedy: str | Callable[[], str] = "") -> None:
        # Names of files and keys of foreign origin are among these, and go to a terminal.
        self.thing, self.reason = printable(thing, _LONGEST), printable(reason, _LONGEST)
        self._remedy = remedy
        super().__init__(f"{self.thing}: {self.reason}")

    @property
    def remedy(self) -> str:
        """What the user can do next, or nothing."""
        return printable(
            self._remedy if isinstance(self._remedy, str) else self._remedy(), _LONGEST
        )

    def as_dict(self) -> dict[str, object]:
        """The error as the ``--json`` contract wants it."""
        return {
            "code": self.exit_code,
            "thing": self.thing,
            "reason": self.reason,
            "remedy": self.remedy,
        }


class UsageError(GenctlError):
    """Bad usage or configuration, of which every process of a run was given the same."""

    said_by_first = True
    exit_code = 2
    name = "usage"


class ConfigError(UsageError):
    """One or more problems in a configuration, all reported at once.

    Args:
        source: the preset or file that was read.
        problems: one line each: the path, what is wrong, the nearest valid name.
        remedy: how to see the valid keys.
    """

    name = "configuration"

    def __init__(self, source: str, problems: Sequence[str], remedy: str = "") -> None:
        super().__init__(source, "; ".join(problems), remedy)
        self.problems = [printable(problem, _LONGEST) for problem in problems]


class GateError(GenctlError):
    """A ``--require`` gate was not met."""

    exit_code = 3
    name = "gate"


class DataError(GenctlError):
    """Bad or missing data, a damaged checkpoint included."""

    exit_code = 4
    name = "data"


class CapabilityError(GenctlError):
    """A capability, an optional extra or weights are missing."""

    exit_code = 5
    name = "capability"


class NonFiniteError(GenctlError):
    """Non-finite numbers stopped the run; the last good checkpoint is kept.

    Weights are equal on all processes of a run, so all meet it.
    """

    said_by_first = True
    exit_code = 6
    name = "nonfinite"


class OutOfMemoryError(GenctlError):
    """The machine or the device has not enough memory."""

    name = "memory"


class LostProcessError(GenctlError):
    """Another process of a run over several processes died or cannot be reached."""

    name = "lost-process"


class StoppedError(GenctlError):
    """Ctrl-C outside a training, where there is nothing to save."""

    exit_code = 130
    name = "interrupted"
