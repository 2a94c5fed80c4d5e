"""What every game logs of its discriminator."""

from __future__ import annotations

import torch
from torch import Tensor


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
