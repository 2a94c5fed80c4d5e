from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Two workers on two cores: threads of their own would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


# As ``genctl train --deterministic`` sets it; too late once a product was taken on the GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def devices() -> list[str]:
    """Every device present; what touches a device is parametrised over them."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    return found


@pytest.fixture(params=devices())
def device(request) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test touches the user's cache folder."""
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _full_float32(monkeypatch):
    """Convolutions on a GPU round to TF32 unless told not to, or unless a test before this did."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def real_data():
    """``real_data("MNIST")``: a real data set beside a parent of the checkout, or skip."""

    def find(name: str) -> Path:
        for parent in Path(__file__).resolve().parents:
            candidate = parent / "shared" / "data" / name
            if candidate.exists():
                return candidate
        pytest.skip(f"no shared/data/{name} in any folder above the checkout")

    return find
