"""Counter-based randomness: a row of noise depends on its address, never on the batch or the rank.

The address of a draw is (seed, stream, call number, row). Rows are produced in chunks of fixed
size, each from a generator seeded with a hash of its address, so any slice of rows can be drawn
alone: a batch of 7 and a batch of 100 hold the same first 7 rows, and two ranks together hold what
one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 64
"""Rows drawn from one generator. Part of the address: changing it changes every sample."""


def seed_of(*address: int | str) -> int:
    """A 63-bit seed from any address, stable over processes and versions."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in address)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class RandomStream:
    """Noise for consecutive rows, starting at ``first_row``.

    Args:
        seed: the run's or the command's seed.
        stream: names what the noise is for; streams with different names are independent.
        first_row: global index of the first row of every draw (sampling in several batches).
        rank: with several processes, rank r draws rows ``[first_row + r·n, first_row + (r+1)·n)``.
        device: where the numbers are made. CPU and CUDA generators differ in value.

    Each draw advances the call number, so two draws of one stream are independent.
    """

    def __init__(
        self,
        seed: int,
        *stream: int | str,
        first_row: int = 0,
        rank: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.address: tuple[int | str, ...] = (seed, *stream)
        self.first_row = first_row
        self.rank = rank
        self.device = torch.device(device)
        self.call = 0

    def fork(self, *stream: int | str) -> RandomStream:
        """An independent stream for the same rows, with a call counter of its own."""
        child = RandomStream(0, first_row=self.first_row, rank=self.rank, device=self.device)
        child.address = (*self.address, *stream)
        return child

    def shared(self, *stream: int | str) -> RandomStream:
        """A fork that is equal on every rank and for every batch, for decisions made together."""
        child = self.fork("shared", *stream)
        child.first_row = child.rank = 0
        return child

    def normal(self, n: int, *shape: int) -> Tensor:
        """Standard normal rows, ``(n, *shape)`` float32."""
        return self._rows(n, lambda g: torch.randn(CHUNK, *shape, generator=g, device=self.device))

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Uniform rows on [0, 1), ``(n, *shape)`` float32."""
        return self._rows(n, lambda g: torch.rand(CHUNK, *shape, generator=g, device=self.device))

    def integers(self, n: int, *shape: int, high: int) -> Tensor:
        """Uniform integers in [0, high), ``(n, *shape)`` int64."""
        return self._rows(
            n,
            lambda g: torch.randint(high, (CHUNK, *shape), generator=g, device=self.device),
        )

    def bernoulli(self, probabilities: Tensor) -> Tensor:
        """Zeros and ones with the given probabilities, in their shape and dtype."""
        u = self.uniform(probabilities.shape[0], *probabilities.shape[1:])
        return (u < probabilities).to(probabilities.dtype)

    def gumbel(self, n: int, *shape: int) -> Tensor:
        """Standard Gumbel rows: ``argmax(logits + gumbel)`` is a categorical draw."""
        # The smallest normal float32 keeps both logarithms finite at u = 0 and as u → 1.
        tiny = torch.finfo(torch.float32).tiny
        exponential = -torch.log(self.uniform(n, *shape).clamp_min(tiny))
        return -torch.log(exponential.clamp_min(tiny))

    def permutation(self, n: int) -> Tensor:
        """A random order of ``range(n)``, equal on every rank."""
        generator = self._generator(-1)
        self.call += 1
        return torch.randperm(n, generator=generator, device=self.device)

    def _generator(self, chunk: int) -> torch.Generator:
        generator = torch.Generator(device=self.device)
        return generator.manual_seed(seed_of(*self.address, self.call, chunk))

    def _rows(self, n: int, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        start = self.first_row + self.rank * n
        first, last = start // CHUNK, max(start, start + n - 1) // CHUNK
        chunks = [draw(self._generator(chunk)) for chunk in range(first, last + 1)]
        self.call += 1
        whole = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        return whole[start - first * CHUNK :][:n]
