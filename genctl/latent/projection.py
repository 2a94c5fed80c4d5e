"""From a picture back to a latent: the nearest thing that a generator can make.

Lucic et al. 2018 (arXiv:1711.10337, section 5.1) invert a generator by gradient descent on
‖x − G(z)‖² from several starts. What is found is an upper bound on the distance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]

RATE = 0.05
"""Adam's first learning rate on latents of a standard prior; it falls to nothing along a cosine."""


def nearest_of(candidates: Tensor, targets: Tensor, k: int) -> Tensor:
    """Rows of the ``k`` nearest candidates of each target.

    Args:
        candidates: ``(M, …)``.
        targets: ``(N, …)``.
        k: at most M.

    Returns:
        ``(N, k)`` int64, the nearest first.
    """
    a, b = targets.flatten(1), candidates.flatten(1)
    return torch.cdist(a, b).topk(min(k, len(b)), dim=1, largest=False).indices


def project(
    decode: Decode, targets: Tensor, starts: Tensor, steps: int = 200, rate: float = RATE
) -> tuple[Tensor, Tensor]:
    """Follow the gradient of the squared distance from each start.

    Args:
        decode: ``(n, …)`` latents → ``(n, *shape)``, differentiable.
        targets: ``(N, *shape)``.
        starts: ``(N, K, …)`` latents.
        steps: of Adam; the nearest point on the way is kept.
        rate: Adam's learning rate in the beginning.

    Returns:
        The best latent of each target ``(N, …)`` and its Euclidean distance ``(N,)``.

    Raises:
        ValueError: what is decoded has no gradient.
    """
    count, tries = starts.shape[:2]
    goal = targets.flatten(1).repeat_interleave(tries, 0)
    best_z = starts.flatten(0, 1).clone()
    best = torch.full((len(goal),), torch.inf, device=goal.device)
    with torch.enable_grad():
        z = best_z.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([z], lr=rate)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
        for step in range(steps + 1):
            squared = (decode(z).flatten(1) - goal).square().sum(1)
            if not squared.requires_grad:
                raise ValueError("what is decoded has no gradient")
            better = squared.detach() < best
            best = torch.where(better, squared.detach(), best)
            best_z[better] = z.detach()[better]
            if step < steps:
                optimiser.zero_grad()
                squared.sum().backward()  # every row has moments of its own
                optimiser.step()
                fall.step()
    place = best.view(count, tries).argmin(1)
    rows = torch.arange(count, device=place.device) * tries + place
    return best_z[rows], best[rows].sqrt()
