"""A pool of past generated examples (Shrivastava et al. 2017, arXiv:1612.07828, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genctl.contracts import Update
from genctl.randomness import RandomStream


class HistoryPool(nn.Module):
    """Replaces half of a batch of fakes by older ones; held in buffers, so resume is exact.

    Args:
        shape: of one example.
        size: how many examples are kept.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, fakes: Tensor, update: Update) -> Tensor:
        """Half fresh, half old; then half of the fresh ones take random places in the pool.

        Every rank holds the same pool: halves and places are those of the global batch.

        Args:
            fakes: ``(N, *shape)`` fresh from the generator.
            update: this step's noise, and the other ranks' fakes.

        Returns:
            ``(N, *shape)``, this rank's rows of the first half of all fakes, then draws from the
            pool (or the second half of the fakes while the pool is empty).
        """
        mixed = self._mixed(
            update.gather(fakes.to(self.images.dtype)), update.rng.shared("history")
        )
        first = update.rng.rank * len(fakes)
        return mixed[first : first + len(fakes)]

    def _mixed(self, fakes: Tensor, rng: RandomStream) -> Tensor:
        half, size = len(fakes) // 2, len(self.images)
        kept, fresh = fakes[: len(fakes) - half], fakes[len(fakes) - half :]
        drawn = rng.integers(half, high=2**31) % self.filled.clamp_min(1)
        result = torch.cat([kept, torch.where(self.filled > 0, self.images[drawn], fresh)])
        # A pool that is not full yet is filled in order; a full one loses examples at random.
        entering = fresh[:size]
        order = (torch.arange(len(entering), device=fakes.device) + self.filled) % size
        random = rng.permutation(size).to(fakes.device)[: len(entering)]
        places = torch.where(self.filled < size, order, random)
        self.images[places] = entering
        self.filled.copy_((self.filled + len(entering)).clamp_max(size))
        return result
