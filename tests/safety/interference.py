"""What can happen to a command from outside, made to happen; called in a child before it starts."""

from __future__ import annotations

import os
import re
import resource
import subprocess
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


def slow_steps(seconds):
    """Every training step takes this much longer."""
    from genctl.engine.update import Updater

    original = Updater.begin_step

    def begin_step(self, step, logging):
        time.sleep(float(seconds))
        original(self, step, logging)

    Updater.begin_step = begin_step


def stall(where, seconds):
    """Stand still at a place, once a file ``stalled`` beside stdout says so."""
    from genctl.data import build
    from genctl.engine import checkpoint

    def stalling(original):
        def stalled(*arguments, **more):
            _mark()
            time.sleep(float(seconds))
            return original(*arguments, **more)

        return stalled

    if where == "decode":
        build.decode = stalling(build.decode)
    elif where == "write":
        original = checkpoint._write_synced
        checkpoint._write_synced = lambda path, content: (
            stalling(original)(path, content)
            if "step-00000000" not in str(path)
            else original(path, content)
        )
    elif where == "step":
        from genctl.engine.update import Updater

        Updater.begin_step = stalling(Updater.begin_step)


def _mark():
    path = os.readlink("/proc/self/fd/1") + ".stalled"
    with open(path, "w"):
        pass
