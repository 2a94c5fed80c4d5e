"""Seconds of training, by a clock that may be set while it runs."""

from __future__ import annotations

import time


class Clock:
    """Counts seconds from its making on. A jump backwards counts as no time, never as less.

    The system's clock that is not supposed to jump does so where virtual machines are moved; and
    negative seconds would be in the log and the checkpoints for ever.
    """

    def __init__(self) -> None:
        self._counted, self._before = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Seconds since it was made; never less than at the call before."""
        now = time.monotonic()
        self._counted += max(0.0, now - self._before)
        self._before = now
        return self._counted
