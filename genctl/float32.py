"""The process-wide switches of float32 products on a GPU: in full, or rounded to TF32's 10 bits.

They belong to the process, so whoever sets them for a while gives them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_tf32(on: bool, convolutions: bool | None = None) -> None:
    """Round the factors of products; of convolutions likewise, unless told otherwise."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on if convolutions is None else convolutions


@contextmanager
def switches_kept() -> Iterator[None]:
    """Give the switches back as they were, whatever is set inside."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions in full, which torch's convolutions on CUDA are not by default."""
    with switches_kept():
        use_tf32(False)
        yield
