"""What a step needs and what the machine gives: arithmetic, matrix products, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from genctl.contracts import GenerativeModel
from genctl.report.plain_loop import PlainUpdate
from genctl.types import Batch

EDGES = (256, 512, 1024, 2048, 4096, 8192)
"""Edges of the square matrices whose product is timed; the best rate is the machine's peak."""

DTYPES = {"bf16": torch.bfloat16}
"""Number format of the matrices, float32 if not named."""


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that returns when the device has done everything it was given."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def step_flops(model: GenerativeModel, update: PlainUpdate, batches: Iterator[Batch]) -> int:
    """Floating-point operations of one step: its matrix products and convolutions.

    Counted where torch sees them all, in a plain loop, since a kernel of one's own hides its work.
    Element-wise operations and the optimiser are not counted.
    """
    with FlopCounterMode(display=False) as counter:
        update.begin_step(update.step + 1)
        model.training_step(batches, update)
    return int(counter.get_total_flops())


def matrix_peak(device: torch.device, precision: str, seconds: float) -> float:
    """FLOP/s of the fastest square matrix product in a precision.

    Args:
        device: where.
        precision: fp32, tf32 (as ``precision.configure`` has set it) or bf16.
        seconds: about how long to try larger ones; the smallest is always tried.
    """
    wait, best, began = waiter(device), 0.0, time.perf_counter()
    for edge in EDGES:
        a = torch.randn(edge, edge, device=device).to(DTYPES.get(precision, torch.float32))
        a @ a  # the first product of a size plans and packs
        for _ in range(3):
            wait()
            start = time.perf_counter()
            a @ a
            wait()
            took = time.perf_counter() - start
            best = max(best, 2.0 * edge**3 / took)
        # A product of twice the edge takes eight times as long, and there are four of them.
        if time.perf_counter() - began + 4 * 8 * took > seconds:
            break
    return best


def forget_peak(device: torch.device) -> None:
    """Begin to watch the memory anew, where the device lets us."""
    if device.type == "cuda":
        torch.cuda.init()  # which the statistics take for granted
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[int, str]:
    """Most bytes in use until now, and what they are."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "most tensors at once on the device"
    if device.type == "mps":
        return torch.mps.driver_allocated_memory(), "what the device has set aside"
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return found * unit, "most the whole process held, Python and torch included"
