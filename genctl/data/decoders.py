"""Processes that decode a folder's small files beside this one.

With small files most of the work is the interpreter's, of which a process has one: threads wait for
each other there. A fork would copy the locks of threads that it does not copy, and the spawning of
``multiprocessing`` runs a user's script again that has no main guard; so a process is a program of
its own, to which names of files are sent. Rows come back through a file that both have open.

They only help: one that does not start gets no work, and what one leaves is done by who asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Self

from genctl.data.decoder_program import READY, Answer, Item, Job
from genctl.errors import GenctlError

AHEAD = 2
"""Portions that a process has at once: it works on one while the answer to the other is read."""
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
"""What a decoder does over a file that it cannot bear; a process that ends otherwise, because the
system was short of memory say, is not missed."""
PATIENCE = 1.0
"""Seconds of silence after which it is looked whether a process still lives."""
_FIRST_FREE = 3
"""Descriptors below are standard streams, which a process gets anew: ours may be closed."""
_PROGRAM = (
    "import sys; from multiprocessing.connection import Connection; "
    "connection = Connection(int(sys.argv[1])); sys.path[:] = connection.recv(); "
    "from genctl.data.decoder_program import main; main(connection, int(sys.argv[2]))"
)

Portion = tuple[list[Item], Sequence[Answer]]
"""What was asked, and the answers."""


class Decoders:
    """Several such processes; a context that ends them.

    Args:
        count: how many are wanted. Where the system starts fewer, or none, there are fewer.
        job: what all files have in common.
        rows: descriptor of the file of rows.
    """

    def __init__(self, count: int, job: Job, rows: int) -> None:
        self._count, self._job, self._rows = count, job, rows
        self.processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self.asked: dict[Connection, deque[list[Item]]] = {}
        """Of each process that is ready, the portions that it has."""

    def __enter__(self) -> Self:
        try:
            with contextlib.suppress(OSError):  # such as a limit on processes
                for _ in range(self._count if is_python(sys.executable) else 0):
                    self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for connection, process in self.processes.items():
            process.kill()  # it has nothing to lose
            process.wait()
            connection.close()

    @property
    def busy(self) -> bool:
        """Whether none has room for a portion."""
        return all(len(portions) >= AHEAD for portions in self.asked.values())

    def take(self, items: list[Item]) -> None:
        """Hand a portion to the process that has least to do."""
        free = min(self.asked, key=lambda connection: len(self.asked[connection]))
        self.asked[free].append(items)
        with contextlib.suppress(OSError):  # that it has ended is found when its answer is awaited
            free.send(items)

    def answered(self, timeout: float = 0.0) -> Iterator[Portion]:
        """Portions that are done by now, or within a time.

        Raises:
            GenctlError: a file crashed a process.
            OSError: a row found no room.
        """
        for connection in wait(list(self.processes), timeout):
            assert isinstance(connection, Connection)
            try:
                found = connection.recv()
            except (EOFError, OSError):
                yield from self._left(connection)
                continue
            if isinstance(found, OSError):
                raise found
            if found == READY:
                self.asked[connection] = deque()
            else:
                yield self.asked[connection].popleft(), found

    def rest(self) -> Iterator[Portion]:
        """Every portion that is not done yet, when it is."""
        while any(self.asked.values()):
            yield from self.answered(PATIENCE)
            # A process may end unseen, when a fork of another thread still holds its connection.
            for connection in [c for c, p in self.processes.items() if p.poll() is not None]:
                if not connection.poll():
                    yield from self._left(connection)

    def _start(self) -> None:
        ours, its = Pipe()
        with contextlib.ExitStack() as stack:
            descriptors = []
            for descriptor in (stack.enter_context(its).fileno(), self._rows):
                copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
                stack.callback(os.close, copy)
                descriptors.append(copy)
            self.processes[ours] = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=descriptors,
                process_group=0,  # signals to all of ours are for us
                # NumPy would start a thread a core, and there is a process a core already.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        with contextlib.suppress(OSError):  # it has ended already
            ours.send([entry for entry in sys.path if isinstance(entry, str)])
            ours.send(self._job)

    def _left(self, connection: Connection) -> Iterator[Portion]:
        """What a process that ended leaves to who asks, unless a file of it was the reason."""
        process, portions = self.processes.pop(connection), self.asked.pop(connection, deque())
        process.kill()  # it may have closed its end and live on
        code = process.wait()
        connection.close()
        if -code in CRASHES and portions:
            names = [name for _, name in portions[0]]
            reason = f"a file from {names[0]} to {names[-1]} crashed a process (signal {-code})"
            raise GenctlError("decoding", reason, "find the file and remove it")
        for items in portions:
            yield items, [None] * len(items)


def is_python(executable: str | None) -> bool:
    """Whether a program is the interpreter, and no application that it was built into."""
    frozen = getattr(sys, "frozen", False)
    return not frozen and Path(executable or "").name.lower().startswith(("python", "pypy"))
