"""Stacked digits (VEEGAN, PacGAN): three random pictures of a grey set as red, green and blue.

With K labels there are K³ kinds of triple: 1000 modes that can be counted, for ten digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.randomness import RandomStream

AT_LEAST = 26_000
"""Triples of a small set: as many as the published scores are taken of."""
MAX_BYTES = 2**28
"""Beyond it a set has no more triples than pictures."""


def count_of(examples: Tensor) -> int:
    """How many triples stand for a set: as many as it has pictures, and more if it is small."""
    n = len(examples)
    return max(n, min(AT_LEAST, MAX_BYTES // max(1, 3 * examples[0].numel())))


def triples(
    examples: Tensor, labels: Tensor, classes: int, count: int, rng: RandomStream
) -> tuple[Tensor, Tensor]:
    """Draw triples; every picture comes equally often in every channel, up to one.

    Args:
        examples: ``(N, 1, H, W)`` uint8.
        labels: ``(N,)`` int64 in [0, classes).
        classes: K.
        count: how many.
        rng: decides them. A smaller count gives the same first triples.

    Returns:
        ``(count, 3, H, W)`` and ``(count,)`` labels K² r + K g + b.
    """
    rounds = -(-count // len(examples))
    chosen = [
        torch.cat([rng.fork(channel, i).permutation(len(examples)) for i in range(rounds)])[:count]
        for channel in range(3)
    ]
    red, green, blue = (labels[rows] for rows in chosen)
    stacked = torch.cat([examples[rows] for rows in chosen], dim=1)
    return stacked, (red * classes + green) * classes + blue
