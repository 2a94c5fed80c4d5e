from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import random_inception


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """Seeded random weights of the standard network's shape: enough to compare two programs."""
    return random_inception.save(tmp_path_factory.mktemp("weights") / "random.pth")
