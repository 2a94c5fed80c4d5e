"""A bound on the bytes that several threads hold at once, whatever the number of cores."""

from __future__ import annotations

import threading


class InFlight:
    """Bytes on their way through the threads; who would exceed the bound waits for the others.

    Args:
        most: the bound. What is larger passes alone.

    Attributes:
        held: bytes that were taken and not given back.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until there is room for ``size`` bytes, and hold them."""
        with self._changed:
            while self.held and self.held + size > self.most:
                self._changed.wait()
            self.held += size

    def give_back(self, size: int) -> None:
        """Let go of bytes that were taken."""
        with self._changed:
            self.held -= size
            self._changed.notify_all()
