"""Choosing the device."""

from __future__ import annotations

import torch

from genctl.errors import UsageError


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: unknown name, or a device this machine does not have.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    kind = name.split(":")[0]
    if kind not in available:
        raise UsageError(f"--device {name}", "unknown device", "auto, cpu, cuda or mps")
    if not available[kind]:
        present = ", ".join(kind for kind, there in available.items() if there)
        raise UsageError(
            f"--device {name}", f"this machine has no {kind}; it has {present}", "--device auto"
        )
    return torch.device(name)
