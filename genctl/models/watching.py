"""What every game logs of its two players."""

from __future__ import annotations

import torch
from torch import Tensor

DIVERSITY_SAMPLE = 64
"""Examples of a batch that the diversity is measured on: pairs grow with the square."""


def per_example(score: Tensor) -> Tensor:
    """``(N, …)`` → ``(N,)``: patch scores are averaged over the patches of an example."""
    return score.flatten(1).mean(1) if score.dim() > 1 else score


def watch(output: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Mean σ(D) where D classifies, mean critic value or energy where it does not.

    Args:
        output: what the objective says the scores are.
        real: scores of real examples, ``(N,)``, detached.
        fake: scores of generated ones.
    """
    if output != "logit":
        means = {"score/real": real.mean(), "score/fake": fake.mean()}
        gap = {"wasserstein": means["score/real"] - means["score/fake"]}
        return means | (gap if output == "critic" else {})
    hits = torch.cat([real > 0, fake < 0]).float()
    return {
        "score/real": real.sigmoid().mean(),
        "score/fake": fake.sigmoid().mean(),
        "accuracy/discriminator": hits.mean(),
    }


def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """Mean pairwise distance inside a fake batch over that inside a real batch; a scalar."""
    if len(real) < 2:
        return torch.ones((), device=real.device)
    spread = [_spread(x[:DIVERSITY_SAMPLE].flatten(1).float()) for x in (fake, real)]
    return spread[0] / spread[1].clamp_min(1e-12)


def _spread(x: Tensor) -> Tensor:
    """Mean distance of two different rows; without the quick formula that misjudges equal rows."""
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum() / (len(x) * (len(x) - 1))
