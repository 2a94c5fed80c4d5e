"""The ranges of the house, and the only conversions between them.

Three scales are used, and each function says which one it takes and gives:

* *bytes*: uint8 0 … 255, as files and the loader hold images;
* *model range*: float in [−1, 1], at every model boundary; byte k is 2k/255 − 1;
* *unit range*: float in [0, 1], for Bernoulli probabilities and flows.

*Levels* 0 … L−1 are the integers a discrete likelihood speaks about: 256 for bytes, 2 for binarised
images, whose model values are exactly −1 and +1.

Densities change with the scale. With D scalar variables and levels a width w apart,
``log P(levels) ≈ log p(x) + D log w``; ``log_level_width`` gives log w on the model range, and
``dequantise`` gives the pair (values, log-Jacobian) on the unit range.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def from_bytes(x: Tensor) -> Tensor:
    """uint8 0 … 255 → float32 in [−1, 1]."""
    return x.to(torch.float32).div_(127.5).sub_(1.0)


def to_bytes(x: Tensor) -> Tensor:
    """[−1, 1] → uint8, rounded and clamped: the exact inverse of ``from_bytes``."""
    return x.detach().float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_unit(x: Tensor) -> Tensor:
    """[−1, 1] → [0, 1]."""
    return (x + 1.0) * 0.5


def from_unit(u: Tensor) -> Tensor:
    """[0, 1] → [−1, 1]."""
    return u * 2.0 - 1.0


def to_levels(x: Tensor, levels: int) -> Tensor:
    """[−1, 1] → int64 0 … levels−1: the nearest level, the exact inverse of ``from_levels``."""
    scaled = (x.detach().float() + 1.0) * ((levels - 1) / 2.0)
    return scaled.round().clamp(0, levels - 1).to(torch.int64)


def from_levels(k: Tensor, levels: int) -> Tensor:
    """Integers 0 … levels−1 → float32 in [−1, 1], the ends included exactly."""
    return k.to(torch.float32) * 2.0 / (levels - 1) - 1.0


def log_level_width(levels: int) -> float:
    """Log of the distance between neighbouring levels on [−1, 1], in nats.

    For a density p on the model range, ``log P(levels) ≈ log p(x) + D · log_level_width(levels)``.
    """
    return math.log(2.0 / (levels - 1))


def dequantise(x: Tensor, noise: Tensor, levels: int) -> tuple[Tensor, float]:
    """Uniform dequantisation to the unit range (Theis et al. 2016, arXiv:1511.01844, section 3.1).

    Args:
        x: ``(N, …)`` images in [−1, 1] that hold ``levels`` distinct values.
        noise: uniform on [0, 1), the shape of ``x``.
        levels: number of levels of one variable.

    Returns:
        ``y = (k + noise) / levels`` in [0, 1), and the log-Jacobian ``−D log levels`` in nats of
        one example: ``log p(y) − D log levels`` is, on average over the noise, a lower bound on the
        log-probability of the levels.
    """
    y = (to_levels(x, levels).to(noise.dtype) + noise) / levels
    return y, -math.prod(x.shape[1:]) * math.log(levels)


def nats_to_bits_per_dim(nats: Number, dimensions: int) -> Number:
    """Nats of one example → bits for each of its dimensions; the sign stays as it is."""
    return nats / (dimensions * math.log(2.0))


def unit_to_model_log_density(nats: Number, dimensions: int) -> Number:
    """A log-density on [0, 1]^D expressed on [−1, 1]^D: every axis is twice as long."""
    return nats - dimensions * math.log(2.0)
