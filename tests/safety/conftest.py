from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))

from fork_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Runs commands in forked children; imported once for all tests here."""
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    found.close()
