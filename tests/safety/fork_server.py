"""A process that imports genctl once and forks a child for every command it is told to run.

A command then starts in a tenth of a second instead of four, so that a hundred can be killed. The
children are processes of their own: SIGKILL, locks, limits and mounts are real. The server never
computes anything, so it has no threads to lose in a fork.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve()


@dataclass
class Child:
    """A running command. ``folder`` holds its ``out`` and ``err``."""

    server: Server
    pid: int
    folder: Path

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def wait(self, timeout=300.0):
        """The exit code, minus the signal's number if one ended it."""
        deadline = time.monotonic() + timeout
        while (code := self.server.ask("poll", pid=self.pid)) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"not done after {timeout} s: {self.err}")
            time.sleep(0.002)
        return code

    def stalled(self, timeout=300.0):
        """Wait until it stands still where the prelude ``stall`` told it to."""
        deadline = time.monotonic() + timeout
        while not (self.folder / f"{self.pid}.out.stalled").exists():
            code = self.server.ask("poll", pid=self.pid)
            assert code is None, f"ended with {code} before it stood still: {self.err}"
            assert time.monotonic() < deadline, f"never stood still: {self.err}"
            time.sleep(0.002)
        return self

    @property
    def out(self):
        return (self.folder / f"{self.pid}.out").read_text()

    @property
    def err(self):
        return (self.folder / f"{self.pid}.err").read_text()


class Server:
    """The client's side. ``wrapper`` is put before the server's command, such as ``unshare``."""

    def __init__(self, folder: Path, wrapper: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), *filter(None, sys.path)]),
            "OMP_NUM_THREADS": "1",
            "GENCTL_CACHE": str(folder / "cache"),
        }
        self.folder, self.mounts = folder, False
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, str(HERE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.ready = False

    def ask(self, what, **more):
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.ready:
            line = self.process.stdout.readline()
            if line != "ready\n":
                raise OSError(f"the server did not start: {line!r}")
            self.ready = True
        self.process.stdin.write(json.dumps({"what": what, **more}, default=str) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *words, prelude=None) -> Child:
        """Start ``genctl WORDS``. ``prelude`` is ``[name, argument, …]`` of ``interference.py``."""
        words = [str(word) for word in words]
        pid = self.ask("start", words=words, prelude=prelude, folder=str(self.folder))
        return Child(self, pid, self.folder)

    def run(self, *words, prelude=None, timeout=300.0):
        """Run ``genctl WORDS`` to its end: the exit code, stdout, stderr."""
        child = self.start(*words, prelude=prelude)
        return child.wait(timeout), child.out, child.err

    def call(self, name, *arguments):
        """Call a function of ``interference.py`` in the server itself, for mounts."""
        return self.ask("call", name=name, arguments=[str(a) for a in arguments])

    def close(self):
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=120)


def _serve() -> None:
    import interference
    import sklearn.datasets  # noqa: F401 - the digits come from here
    import torch
    import torch._inductor  # which the first optimiser imports

    import genctl.cli.train
    import genctl.engine.run
    import genctl.report.scores  # noqa: F401
    from genctl.config.load import load_config

    torch.set_num_threads(1)
    load_config("quickstart")  # imports every part
    codes: dict[int, int] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["what"] == "start":
            pid = os.fork()
            if pid == 0:
                _become(order)
            answer = pid
        elif order["what"] == "call":
            answer = getattr(interference, order["name"])(*order["arguments"])
        else:
            pid = order["pid"]
            if pid not in codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            answer = codes.get(pid)
        print(json.dumps(answer), flush=True)
    os._exit(0)  # nothing to tidy, and tidying all of torch takes seconds


def _become(order) -> None:
    """Be the command: output to files, signals as a shell gives them, its exit code."""
    code = 70
    try:
        os.setsid()
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        for number, ending in ((1, "out"), (2, "err")):
            path = f"{order['folder']}/{os.getpid()}.{ending}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["genctl", *order["words"]]
        import interference

        import genctl.cli.train
        from genctl.cli.main import main

        genctl.cli.train.started = time.monotonic()
        if order["prelude"]:
            name, *arguments = order["prelude"]
            getattr(interference, name)(*arguments)
        code = main(order["words"])
    except BaseException:  # noqa: BLE001 - as the interpreter does at the very end
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
