"""Signals: in a training the first Ctrl-C or SIGTERM asks for a stop, SIGUSR1 for a checkpoint.

A terminal that is closed sends SIGHUP, which is as SIGTERM, unless `nohup` had it ignored.

Outside of one there is nothing to save: both end the command at once, and SIGUSR1 does nothing,
where by default it would kill. A second request leaves at once; what a launcher passes on of the
first is none.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ECHO_SECONDS = 3.0
"""A SIGTERM so soon after the first request is the same one: job managers send it to every process,
and a launcher among them passes it on."""


class Requests:
    """What the outside asked for; read between two steps."""

    def __init__(self) -> None:
        self.stop = False
        self.save = False
        self.stop_since = 0.0

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """First time: stop after this step. Second time: leave at once."""
        self._first(number)

    def _first(self, number: int) -> bool:
        """Whether this is the first request; does not return from the second."""
        now = time.monotonic()
        if not self.stop:
            self.stop, self.stop_since = True, now
            return True
        if number == signal.SIGINT or now - self.stop_since > ECHO_SECONDS:
            os._exit(130)  # whatever hangs, hangs; the last checkpoint is complete
        return False

    def on_save(self, number: int, frame: FrameType | None) -> None:
        """Save after this step and go on."""
        self.save = True


class Interruption(KeyboardInterrupt):
    """Ctrl-C with a class of its own.

    After a plain one inside ``exec``, which imports use, Python ends itself by SIGINT, whatever
    exit code it was given.
    """


class Interrupts(Requests):
    """The same outside of a training: a stop is at once, by an exception that cleans up."""

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """First time: as Ctrl-C, whichever signal it was. Second time: leave at once."""
        if self._first(number):
            raise Interruption


@contextmanager
def listening() -> Iterator[Requests]:
    """Collect what is asked for inside the block; only the main thread can."""
    requests = Requests()
    with _handling(requests):
        yield requests


@contextmanager
def interrupting() -> Iterator[Interrupts]:
    """Let SIGTERM end the block as Ctrl-C does, but where a training inside it listens itself.

    Whatever else the block raises after an interrupt is its consequence: imports that were torn
    fail in ways of their own.
    """
    interrupts = Interrupts()
    with _handling(interrupts):
        try:
            yield interrupts
        except Exception:
            if interrupts.stop:
                raise Interruption from None
            raise


@contextmanager
def _handling(requests: Requests) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {
        signal.SIGINT: requests.on_stop,
        signal.SIGTERM: requests.on_stop,
        signal.SIGUSR1: requests.on_save,
    }
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handlers[signal.SIGHUP] = requests.on_stop
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
