"""Trading resolution for channels, exactly and back (arXiv:1605.08803, figure 3)."""

from __future__ import annotations

from torch import Tensor


def squeeze(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` → ``(N, 4C, H/2, W/2)``: each 2 x 2 square becomes four pixels' channels.

    Channels come square position by square position, so half of them are whole pixels.
    """
    n, c, h, w = x.shape
    squares = x.reshape(n, c, h // 2, 2, w // 2, 2)
    return squares.permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """The inverse of ``squeeze``."""
    n, c, h, w = x.shape
    squares = x.reshape(n, 2, 2, c // 4, h, w)
    return squares.permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)
