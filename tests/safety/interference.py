"""What can happen to a command from outside, made to happen; called in a child before it starts."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
import time


def limit_memory(mebibytes):
    """Let the address space grow by no more than this."""
    with open("/proc/self/status") as file:
        now = int(re.search(r"VmSize:\s+(\d+)", file.read())[1]) * 1024
    bound = now + int(mebibytes) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))


def mount_tmpfs(folder, size):
    """A small file system of its own, seen by this process and its children."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    return done.stderr or None


def remount(folder, options):
    done = subprocess.run(
        ["mount", "-o", f"remount,{options}", folder], capture_output=True, text=True
    )
    return done.stderr or None


def stall(where, seconds):
    """Stand still at every ``where``, once a file ``….stalled`` beside stdout says so."""
    from genctl.data import decoding
    from genctl.engine import checkpoint
    from genctl.engine.update import Updater

    def stalling(original, when=lambda *arguments: True):
        def stalled(*arguments, **more):
            if when(*arguments):
                _stand(float(seconds))
            return original(*arguments, **more)

        return stalled

    if where == "decode":
        decoding.decode = stalling(decoding.decode)
    elif where == "write":
        later = lambda path, content: "step-00000000" not in str(path)  # noqa: E731
        checkpoint._write_synced = stalling(checkpoint._write_synced, later)
    elif where == "step":
        Updater.begin_step = stalling(Updater.begin_step)
    else:
        sys.modules.pop("genctl.report.scores")
        sys.meta_path.insert(0, _SlowImport(float(seconds)))


class _SlowImport:
    """Finds nothing, slowly."""

    def __init__(self, seconds):
        self.seconds = seconds

    def find_spec(self, name, path=None, target=None):
        if name == "genctl.report.scores":
            _stand(self.seconds)


def _stand(seconds):
    with open(os.readlink("/proc/self/fd/1") + ".stalled", "w"):
        pass
    time.sleep(seconds)


def fill(folder, first, last):
    """Leave no space on a file system from one step until before another."""
    from genctl.engine.update import Updater

    original, ballast = Updater.begin_step, os.path.join(folder, "ballast")

    def begin_step(self, step, logging):
        if step == int(first):
            with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
        elif step == int(last):
            os.unlink(ballast)
        original(self, step, logging)

    Updater.begin_step = begin_step
