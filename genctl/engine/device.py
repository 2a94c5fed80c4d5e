"""Choosing the device."""

from __future__ import annotations

import os
import re

import torch

from genctl.engine.launch import local_rank
from genctl.errors import UsageError


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: unknown name, a device this machine does not have, or one for all processes.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, present in available.items() if present)
    kind, _, index = name.partition(":")
    if kind not in available or not re.fullmatch(r"\d{0,3}", index):
        raise UsageError(f"--device {name}", "unknown device", "auto, cpu, cuda or mps")
    if not available[kind]:
        present = ", ".join(kind for kind, there in available.items() if there)
        raise UsageError(
            f"--device {name}", f"this machine has no {kind}; it has {present}", "--device auto"
        )
    if kind == "cuda":  # cuBLAS reads it at its first product, for all that are deterministic
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"--device {name}", f"this machine has {count} of them", "--device cuda")
    if kind == "cuda" and index and local_rank():
        reason = "several processes of a machine would all use this one"
        raise UsageError(f"--device {name}", reason, "--device cuda gives each its own")
    if kind == "cuda" and not index:
        return torch.device("cuda", local_rank())
    return torch.device(name)
