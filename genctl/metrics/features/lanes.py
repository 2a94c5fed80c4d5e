"""Parts of a batch side by side on a CPU, each on cores of its own.

All cores on one picture wait for each other behind every layer; a core that has a part to itself
never waits. Measured on two cores with the Inception network: a tenth to a quarter sooner in
bfloat16, 7 % in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def in_lanes(work: Callable[[Tensor], Tensor], batch: Tensor, most: int) -> Tensor:
    """``work`` of parts of a batch, joined again.

    Args:
        work: takes ``(n, ...)`` to ``(n, ...)``, every example for itself, without gradients. It is
            called from several threads at once.
        batch: ``(N, ...)`` on the CPU, with N > 0.
        most: examples in a part.
    """
    threads = torch.get_num_threads()
    lanes = min(threads, len(batch))
    parts = batch.tensor_split(min(len(batch), lanes * math.ceil(len(batch) / (lanes * most))))
    if lanes == 1:
        return torch.cat([work(part) for part in parts])

    def claim() -> None:
        torch.get_num_threads()  # what torch sets in a new thread it sets here, not after
        torch.set_num_threads(threads // lanes)

    try:
        with ThreadPoolExecutor(lanes, "genctl-lane", claim) as pool:
            return torch.cat(list(pool.map(work, parts)))
    finally:
        torch.set_num_threads(threads)  # also the number that threads yet to begin will get
