"""Ways from one latent to another: straight lines and great circles.

Samples of a Gaussian prior lie near a sphere of radius √D. A straight line between two of them
leaves that shell and passes through latents the model never saw; a great circle stays on it
(White 2016, *Sampling Generative Networks*, arXiv:1609.04468, section 2.1).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

WalkKind = Literal["slerp", "lerp"]

ANTIPODAL = 1e-3
"""Radians from π within which the plane of the great circle is not determined by the ends."""
FARTHEST = 2.0
"""Of the longer end: ends of unequal lengths and nearly opposite directions would meet, by White's
formula, as far out as 1 / sin θ."""


def kind_for(geometry: str | None) -> WalkKind:
    """The natural walk of a prior: great circles on a ``sphere``, else straight lines."""
    return "lerp" if geometry == "flat" else "slerp"


def lerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """(1 − t)·a + t·b, with both ends exact.

    Args:
        a: ``(…, D)`` floats.
        b: ``(…, D)`` of the same dtype.
        t: a number, or ``(…)`` one for each row.
    """
    a, b = torch.broadcast_tensors(a, b)
    weight = _rows(t, a, a.dtype)
    return torch.lerp(a, b, weight.expand_as(a))


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Spherical interpolation: sin((1−t)θ)/sin θ · a + sin(tθ)/sin θ · b, with both ends exact.

    θ is the angle between a and b, which may differ in length (White 2016, section 2.1). Equal
    directions and zero vectors give the straight line, which is the limit. Opposite directions have
    no unique great circle: one is chosen, always the same, and the length goes linearly. So it does
    where the formula would lead beyond twice the longer end.

    Args:
        a: ``(…, D)`` floats.
        b: ``(…, D)`` of the same dtype.
        t: a number, or ``(…)`` one for each row.

    Returns:
        ``(…, D)`` in the dtype of ``a``; half precisions are computed in float32.
    """
    a, b = torch.broadcast_tensors(a, b)
    dtype = a.dtype
    wide = dtype if dtype == torch.float64 else torch.float32
    p, q, s = a.to(wide), b.to(wide), _rows(t, a, wide)
    # Scaled first, so that no length overflows.
    scale = torch.maximum(p.abs().amax(-1, keepdim=True), q.abs().amax(-1, keepdim=True))
    scale = torch.where(scale > 0, scale, 1)
    p, q = p / scale, q / scale
    length_p = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    length_q = torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    unit_p, unit_q = _unit(p, length_p), _unit(q, length_q)
    # Kahan's formula keeps its precision near 0 and π, where arccos of a dot product loses it.
    theta = 2 * torch.atan2(
        torch.linalg.vector_norm(unit_p - unit_q, dim=-1, keepdim=True),
        torch.linalg.vector_norm(unit_p + unit_q, dim=-1, keepdim=True),
    )
    straight = (theta < torch.finfo(wide).eps) | (length_p == 0) | (length_q == 0)
    half_way = torch.linalg.vector_norm(p + q, dim=-1, keepdim=True) / 2
    too_far = half_way > FARTHEST * torch.maximum(length_p, length_q) * torch.cos(theta / 2)
    opposite = ((theta > math.pi - ANTIPODAL) | too_far) & ~straight
    sine = torch.where(straight | opposite, 1, torch.sin(theta))
    circle = (torch.sin((1 - s) * theta) * p + torch.sin(s * theta) * q) / sine
    detour = (torch.cos(s * theta) * unit_p + torch.sin(s * theta) * _sideways(unit_p, unit_q)) * (
        (1 - s) * length_p + s * length_q
    )
    line = torch.lerp(p, q, s.expand_as(p))
    if a.shape[-1] == 1:  # a line has no way round the origin
        straight, opposite = straight | opposite, torch.zeros_like(opposite)
    between = torch.where(straight, line, torch.where(opposite, detour, circle)) * scale
    return torch.where(s == 0, a, torch.where(s == 1, b, between.to(dtype)))


def walk(a: Tensor, b: Tensor, steps: int, kind: WalkKind = "slerp") -> Tensor:
    """Evenly spaced latents from ``a`` to ``b``, both included.

    Args:
        a: ``(…, D)``.
        b: ``(…, D)``.
        steps: how many, at least 2.
        kind: ``slerp`` or ``lerp``.

    Returns:
        ``(…, steps, D)``.

    Raises:
        ValueError: fewer than two steps, or another kind.
    """
    if steps < 2:
        raise ValueError(f"a walk has at least its two ends, found steps = {steps}")
    if kind not in ("slerp", "lerp"):
        raise ValueError(f"expected slerp or lerp, found {kind!r}")
    step = slerp if kind == "slerp" else lerp
    return torch.stack([step(a, b, i / (steps - 1)) for i in range(steps)], dim=-2)


def _rows(t: float | Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """``t`` as ``(…, 1)`` on the device of ``like``."""
    return torch.as_tensor(t, dtype=dtype, device=like.device).unsqueeze(-1)


def _unit(v: Tensor, length: Tensor) -> Tensor:
    return v / torch.where(length > 0, length, 1)


def _sideways(unit_a: Tensor, unit_b: Tensor) -> Tensor:
    """A unit vector at right angles to ``unit_a``: towards ``unit_b`` where that says anything."""
    towards = unit_b - (unit_a * unit_b).sum(-1, keepdim=True) * unit_a
    # Rounding alone leaves a few ulps; only more than that is a direction.
    clear = (
        torch.linalg.vector_norm(towards, dim=-1, keepdim=True) > 32 * torch.finfo(unit_a.dtype).eps
    )
    axis = torch.zeros_like(unit_a).scatter_(-1, unit_a.abs().argmin(-1, keepdim=True), 1.0)
    direction = torch.where(clear, towards, axis)
    for _ in range(2):  # twice is enough (Kahan, Parlett): the second removes what rounding left
        direction = direction - (unit_a * direction).sum(-1, keepdim=True) * unit_a
    return direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True).clamp_min(1e-30)
