from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))

from fork_server import Server

NAMESPACE = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Runs commands in forked children; imported once for all tests here.

    It has mounts of its own where the system lets it (``server.mounts``).
    """
    mounts = shutil.which("unshare") is not None and not subprocess.call(
        [*NAMESPACE, "true"], stderr=subprocess.DEVNULL
    )
    found = Server(tmp_path_factory.mktemp("server"), NAMESPACE if mounts else ())
    found.mounts = mounts
    yield found
    found.close()
