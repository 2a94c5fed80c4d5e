"""One-dimensional data, where a whole game can be seen: both densities and D's decision.

For fixed generated density p_g the best discriminator says p_data / (p_data + p_g) (Goodfellow et
al. 2014, arXiv:1406.2661, proposition 1), which is drawn beside what D says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genctl.contracts import GenerativeModel, HasDiscriminatorScore, Samples
from genctl.data.dataset import Dataset
from genctl.randomness import RandomStream

POINTS = 400
SAMPLES = 20_000
WIDER = 1.0
"""How much of the data's range is shown on each side of it."""

Row = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """What there is to see on the line.

    Attributes:
        x: ``(P,)`` places.
        data: ``(P,)`` density of the data: exact for a toy, else estimated.
        generated: ``(P,)`` density of the samples, estimated.
        decision: ``(P,)`` probability of being real that D gives each place; None without such a D.
    """

    x: Row
    data: Row
    generated: Row
    decision: Row | None

    @property
    def optimum(self) -> Row:
        """``(P,)`` p_data / (p_data + p_g), what the best D says; NaN where both are 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            best: Row = self.data / (self.data + self.generated)
        return best

    def visited(self, share: float = 0.05) -> NDArray[np.bool_]:
        """``(P,)`` where either density is at least this share of its largest value."""
        seen: NDArray[np.bool_] = (self.data >= share * self.data.max()) | (
            self.generated >= share * self.generated.max()
        )
        return seen


def look_along(model: GenerativeModel, dataset: Dataset, rng: RandomStream) -> Line:
    """Densities and decision of a model on one-dimensional points.

    Args:
        model: samples; in evaluation mode.
        dataset: what it is trained on, points ``(N, 1)``.
        rng: noise of the samples.
    """
    assert isinstance(model, Samples)
    points = dataset.examples[:, 0].double().numpy()
    low, high = float(points.min()), float(points.max())
    margin = WIDER * (high - low)
    x = torch.linspace(low - margin, high + margin, POINTS, dtype=torch.float64)
    with torch.no_grad():
        samples = model.sample(SAMPLES, rng).double().cpu().numpy()[:, 0]
        decision = _decision(model, x, rng.device)
    places: Row = x.numpy()
    toy = dataset.toy
    data = density(points, places) if toy is None else toy.log_prob(x[:, None]).exp().numpy()
    return Line(places, data, density(samples, places), decision)


def density(samples: Row, x: Row) -> Row:
    """Kernel estimate with Gaussians of Silverman's width, 0.9 min(s, IQR/1.34) n^(−1/5).

    Args:
        samples: ``(N,)``; those that are not finite count as lying elsewhere.
        x: ``(P,)`` places, evenly spaced.

    Returns:
        ``(P,)``; its integral over the whole line is the share of finite samples.
    """
    kept = samples[np.isfinite(samples)]
    if len(kept) < 2:
        return np.zeros_like(x)
    low, high = np.quantile(kept, [0.25, 0.75])
    spread = min(float(kept.std()), float(high - low) / 1.34) or float(kept.std())
    width = max(0.9 * spread * len(kept) ** -0.2, float(x[1] - x[0]))  # a collapse is one bar
    total = np.zeros_like(x)
    for some in np.array_split(kept, max(1, len(kept) // 2000)):
        total += np.exp(-0.5 * np.square((x[:, None] - some) / width)).sum(1)
    estimate: Row = total / (len(samples) * width * math.sqrt(2 * math.pi))
    return estimate


def _decision(model: GenerativeModel, x: Tensor, device: torch.device) -> Row | None:
    """σ(D(x)), of models whose objective reads scores as logits."""
    objective = getattr(model, "objective", None)
    if getattr(objective, "output", "") != "logit":
        return None
    if not isinstance(model, HasDiscriminatorScore):
        return None
    score = model.discriminator_score(x[:, None].to(device, torch.float32))
    decided: Row = score.double().sigmoid().cpu().numpy()
    return decided
