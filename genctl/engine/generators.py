"""The global random generators: only torch's own modules (dropout) and user code draw from them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genctl.float32 import switches_kept


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Other work inside the block leaves no trace in a training: it may seed and set what it likes.

    What is put back is what opening another model changes: the global generators, and the switches
    of float32 products.
    """
    tensors, numbers = generators(device)
    try:
        with switches_kept():
            yield
    finally:
        restore_generators(tensors, numbers, device)


def generators(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Their states, as a checkpoint keeps them: torch's as tensors, the others as plain numbers."""
    tensors = {"generator/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["generator/cuda/0"] = torch.cuda.get_rng_state(device)
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert not isinstance(keys, int)
    numpy_state = [kind, [int(key) for key in keys], position, has_gauss, cached]
    return tensors, {"python": [version, list(words), gauss], "numpy": numpy_state}


def restore_generators(
    tensors: dict[str, Tensor], numbers: dict[str, Any], device: torch.device
) -> None:
    """Put back what ``generators`` returned."""
    torch.set_rng_state(tensors["generator/cpu"])
    if device.type == "cuda" and "generator/cuda/0" in tensors:
        torch.cuda.set_rng_state(tensors["generator/cuda/0"], device)
    version, words, gauss = numbers["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = numbers["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
