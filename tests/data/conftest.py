from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_root(tmp_path_factory, monkeypatch) -> Path:
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GENCTL_CACHE", str(root))
    monkeypatch.delenv("GENCTL_CACHE_GIB", raising=False)
    return root


@pytest.fixture
def paint():
    """Write n different images below a folder; returns their paths."""

    def write(
        folder: Path, n: int, *, size=(8, 8), grey=False, seed=0, suffix=".png"
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        paths = []
        for i in range(n):
            shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            path = folder / f"{i:05d}{suffix}"
            Image.fromarray(pixels).save(path)
            paths.append(path)
        return paths

    return write
