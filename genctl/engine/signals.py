"""Signals: the first Ctrl-C or SIGTERM asks for a stop, SIGUSR1 for a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Requests:
    """What the outside asked for; read between two steps."""

    def __init__(self) -> None:
        self.stop = False
        self.save = False

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """First time: stop after this step. Second time: leave at once."""
        if self.stop:
            os._exit(130)  # whatever hangs, hangs; the last checkpoint is complete
        self.stop = True

    def on_save(self, number: int, frame: FrameType | None) -> None:
        """Save after this step and go on."""
        self.save = True


@contextmanager
def listening() -> Iterator[Requests]:
    """Handle the signals inside the block; only the main thread may."""
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    handlers = {
        signal.SIGINT: requests.on_stop,
        signal.SIGTERM: requests.on_stop,
        signal.SIGUSR1: requests.on_save,
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
