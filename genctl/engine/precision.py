"""Number formats: fp32, tf32 and bf16. float16 is not offered: its range breaks penalties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch

from genctl.float32 import switches_kept, use_tf32

PRECISIONS = ("fp32", "tf32", "bf16")


def pick_precision(wanted: str, device: torch.device) -> str:
    """Resolve ``auto``: bf16 where the chip multiplies it fast, else fp32.

    Raises:
        ValueError: unknown name.
    """
    if wanted != "auto":
        if wanted not in PRECISIONS:
            raise ValueError(f"precision {wanted!r} is not one of auto, {', '.join(PRECISIONS)}")
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and _has_amx() else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which losses are computed."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def configure(precision: str) -> None:
    """Set the process-wide switches of float32 products, for a training."""
    use_tf32(precision == "tf32")


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """The context in which a finished model computes; another one beside it may use another."""
    with switches_kept():
        configure(precision)
        with autocast(device, precision):
            yield


@cache
def _has_amx() -> bool:
    """Without AMX tiles a CPU computes bf16 slower than fp32."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text(errors="replace")
