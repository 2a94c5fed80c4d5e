"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738).

Real and generated pictures are changed alike and the generator is trained through the change, so
that the discriminator has more to learn by heart and the generator nothing else to imitate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from genctl.randomness import RandomStream

Kind = Literal["colour", "translation", "cutout"]


def augment(x: Tensor, kinds: Sequence[Kind], rng: RandomStream) -> Tensor:
    """Each picture changed by draws of its own, ``(N, C, H, W)`` → the same shape."""
    for kind in kinds:
        x = CHANGES[kind](x, rng)
    return x


def colour(x: Tensor, rng: RandomStream) -> Tensor:
    """Brightness by ±½, saturation by 0 to 2, contrast by ½ to 1½."""
    brightness, saturation, contrast = rng.uniform(len(x), 3, 1, 1, 1).to(x).unbind(1)
    x = x + brightness - 0.5
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, 2.0 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, contrast + 0.5)


def translation(x: Tensor, rng: RandomStream) -> Tensor:
    """Moved by up to an eighth of each edge; zeros, which are grey, move in."""
    height, breadth = x.shape[2:]
    rows = _moved(height, _shifts(len(x), height, rng).to(x.device))
    columns = _moved(breadth, _shifts(len(x), breadth, rng).to(x.device))
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < breadth))[
        :, None
    ]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, breadth - 1)
    example = torch.arange(len(x), device=x.device)[:, None, None]
    found = x.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None]]
    return (found * inside[..., None]).permute(0, 3, 1, 2)


def cutout(x: Tensor, rng: RandomStream) -> Tensor:
    """A square of half the edges is grey, its centre anywhere."""
    kept = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for axis in (2, 3):
        edge = x.shape[axis]
        size = edge // 2
        centre = rng.integers(len(x), high=edge + 1 - size % 2).to(x.device)
        distance = torch.arange(edge, device=x.device) - centre[:, None] + size // 2
        covered = (distance >= 0) & (distance < size)
        covered = covered[:, None, :, None] if axis == 2 else covered[:, None, None, :]
        kept = covered if axis == 2 else ~(kept & covered)
    return x * kept


def _shifts(n: int, edge: int, rng: RandomStream) -> Tensor:
    most = int(edge / 8 + 0.5)
    return rng.integers(n, high=2 * most + 1) - most


def _moved(edge: int, shift: Tensor) -> Tensor:
    """Where each row or column of the result comes from, ``(N, edge)``."""
    return torch.arange(edge, device=shift.device) + shift[:, None]


CHANGES: dict[Kind, Callable[[Tensor, RandomStream], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}
