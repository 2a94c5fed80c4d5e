"""Processes that decode small files beside this one.

With small files most of the work is the interpreter's, of which a process has one: threads wait for
each other there. A fork would copy the locks of threads that it does not copy, and the spawning of
``multiprocessing`` runs a user's script again that has no main guard; so a process is a program of
its own, to which portions of work are sent. Rows come back through a file that both have open.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Self

from genctl.data.decoder_program import Answer, Item, Job
from genctl.errors import GenctlError

AHEAD = 2
"""Portions that a process has at once: it works on one while the answer to the other is read."""
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
"""What a decoder does over a file that it cannot bear; a process that ends otherwise, because the
system was short of memory say, is not missed."""
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from genctl.data.decoder_program import main; main(int(sys.argv[2]))"
)


class Decoders:
    """Several such processes; a context that ends them.

    Args:
        count: how many are wanted. Where the system starts fewer, or none, there are fewer.
        job: what all files have in common.
    """

    def __init__(self, count: int, job: Job) -> None:
        self.count, self.job = count, job
        self.processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self.asked: dict[Connection, deque[list[Item]]] = {}

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # such as a limit on processes
            for _ in range(self.count):
                self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        for connection, process in self.processes.items():
            connection.close()
            process.kill()  # it has nothing to lose
            process.wait()

    @property
    def busy(self) -> bool:
        """Whether none has room for a portion."""
        return all(len(portions) >= AHEAD for portions in self.asked.values())

    def take(self, items: list[Item]) -> None:
        """Hand a portion to the process that has least to do."""
        free = min(self.asked, key=lambda connection: len(self.asked[connection]))
        self.asked[free].append(items)
        _send(free, items)

    def answered(
        self, timeout: float | None = 0.0
    ) -> Iterator[tuple[list[Item], Sequence[Answer]]]:
        """Portions that are done; with a timeout of None at least one, if any is not.

        Raises:
            GenctlError: a file crashed a process.
            OSError: a row found no room.
        """
        working = [connection for connection, portions in self.asked.items() if portions]
        for connection in wait(working, timeout) if working else ():
            assert isinstance(connection, Connection)
            try:
                found = connection.recv()
            except (EOFError, ConnectionError):
                yield from self._left(connection)
                continue
            if isinstance(found, OSError):
                raise found
            yield self.asked[connection].popleft(), found

    def rest(self) -> Iterator[tuple[list[Item], Sequence[Answer]]]:
        """Every portion that is not done yet, when it is."""
        while any(self.asked.values()):
            yield from self.answered(None)

    def _start(self) -> None:
        ours, its = Pipe()
        with its:
            self.processes[ours] = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(its.fileno(), self.job.rows),
                # NumPy would start a thread a core, and there is a process a core already.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self.asked[ours] = deque()
        _send(ours, self.job)

    def _left(self, connection: Connection) -> Iterator[tuple[list[Item], Sequence[Answer]]]:
        """What a process that ended leaves to who asks, unless a file of it was the reason."""
        portions, code = self.asked.pop(connection), self.processes[connection].wait()
        if -code in CRASHES:
            names = [item for _, item in portions[0] if isinstance(item, str)]
            where = f" among the files from {names[0]} to {names[-1]}" if names else ""
            reason = f"ended one of its processes{where}, by signal {-code}"
            raise GenctlError("decoding", reason, "find the file and remove it")
        for items in portions:
            yield items, [None] * len(items)


def _send(connection: Connection, message: object) -> None:
    """Send; that a process has ended is found when its answer is awaited."""
    with contextlib.suppress(ConnectionError):
        connection.send(message)
