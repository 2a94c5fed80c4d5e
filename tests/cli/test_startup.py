"""``genctl --help`` answers at once: well under 0.3 s of process time beyond an empty Python."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys


def cpu_seconds(code: str) -> float:
    """User and system time of one fresh interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_fast():
    ours = "from genctl.cli.main import main; main(['--help'])"
    cpu_seconds(ours)  # compiled files on disk
    extra = statistics.median(cpu_seconds(ours) for _ in range(5)) - statistics.median(
        cpu_seconds("pass") for _ in range(5)
    )
    assert extra <= 0.3 * 2, f"{extra:.2f} s"  # twice the aim: a busy machine must not fail a build
