"""What a generator's loss gets beside or instead of its objective, from the discriminator's eyes.

They are statistics of a batch, so they are taken over the batch of all ranks.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from genctl.across_ranks import mean_over_ranks, rows_of_all_ranks
from genctl.registry import register
from genctl.types import Discrimination

Weight = Annotated[float, Field(ge=0)]


@register("term", "feature-matching")
class FeatureMatching:
    """‖E f(x) − E f(G(z))‖² of the discriminator's features (arXiv:1606.03498, section 3.1).

    Args:
        weight: its factor.
        alone: it takes the place of the generator's objective, as in the paper.
    """

    name = "feature_matching"
    compares = True

    def __init__(self, *, weight: Weight = 1.0, alone: bool = True) -> None:
        self.weight, self.replaces = weight, alone

    def __call__(self, fake: Discrimination, real: Discrimination | None) -> Tensor:
        """Features ``(N, F)`` of both → a scalar."""
        assert real is not None
        means = [mean_over_ranks(_features(seen).mean(0)) for seen in (real, fake)]
        return (means[0] - means[1]).square().sum()


@register("term", "pulling-away")
class PullingAway:
    """Mean squared cosine of two different examples' features (EBGAN, arXiv:1609.03126, eq. 4).

    Args:
        weight: its factor; 0.1 in the paper.
    """

    name = "pulling_away"
    compares = False
    replaces = False

    def __init__(self, *, weight: Weight = 0.1) -> None:
        self.weight = weight

    def __call__(self, fake: Discrimination, real: Discrimination | None) -> Tensor:
        """Features ``(N, F)`` of generated examples → a scalar in [0, 1]."""
        directions = F.normalize(rows_of_all_ranks(_features(fake)), dim=1)
        n = len(directions)
        cosines = directions @ directions.t()
        others = ~torch.eye(n, dtype=torch.bool, device=cosines.device)
        return cosines.square().masked_fill(~others, 0.0).sum() / max(1, n * (n - 1))


def _features(seen: Discrimination) -> Tensor:
    assert seen.features is not None
    return seen.features.flatten(1)
