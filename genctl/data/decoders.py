"""Processes that decode small files beside this one.

With small files most of the work is the interpreter's, of which a process has one: threads wait for
each other there. A fork would copy the locks of threads that it does not copy, and the spawning of
``multiprocessing`` runs a user's script again that has no main guard; so a process is a program of
its own, to which portions of work are sent. Rows come back through a file that both have open.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Self

from genctl.data.decoder_program import Answer, Item, Job
from genctl.errors import GenctlError

AHEAD = 2
"""Portions that a process has at once: it works on one while the answer to the other is read."""
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from genctl.data.decoder_program import main; main(int(sys.argv[2]))"
)


class Decoders:
    """Several such processes; a context that ends them.

    Args:
        count: how many.
        job: what all files have in common.
    """

    def __init__(self, count: int, job: Job) -> None:
        self.job = job
        self.processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self.asked: dict[Connection, deque[list[Item]]] = {}
        self.count = count

    def __enter__(self) -> Self:
        for _ in range(self.count):
            ours, its = Pipe()
            self.processes[ours] = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(its.fileno(), self.job.rows),
                # NumPy would start a thread a core, and there is a process a core already.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
            its.close()
            self.asked[ours] = deque()
            self._send(ours, self.job)
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
        self._send(free, items)
        self.asked[free].append(items)

    def answered(self, timeout: float | None = 0.0) -> Iterator[tuple[list[Item], list[Answer]]]:
        """Portions that are done; with a timeout of None at least one, if any is not."""
        working = [connection for connection, portions in self.asked.items() if portions]
        for connection in wait(working, timeout) if working else ():
            assert isinstance(connection, Connection)
            try:
                found = connection.recv()
            except (EOFError, ConnectionError):
                raise self._gone(connection) from None
            if isinstance(found, OSError):
                raise found
            yield self.asked[connection].popleft(), found

    def rest(self) -> Iterator[tuple[list[Item], list[Answer]]]:
        """Every portion that is not done yet, when it is."""
        while any(self.asked.values()):
            yield from self.answered(None)

    def _send(self, connection: Connection, message: object) -> None:
        try:
            connection.send(message)
        except ConnectionError:
            raise self._gone(connection) from None

    def _gone(self, connection: Connection) -> GenctlError:
        code = self.processes[connection].wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        portions = self.asked[connection]
        names = [item for _, item in portions[0] if isinstance(item, str)] if portions else []
        where = f", among the files from {names[0]} to {names[-1]}" if names else ""
        return GenctlError(
            "decoding", f"one of its processes ended with {how}{where}", "start again"
        )
