"""RealNVP: an invertible network of affine couplings, for points and for images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.data.ranges import dequantise, from_levels, from_unit, to_levels
from genctl.networks.layers.bijection import Bijection, Chain
from genctl.networks.layers.coupling import (
    AffineCoupling,
    alternating_mask,
    channel_mask,
    checkerboard_mask,
)
from genctl.networks.layers.coupling_networks import CouplingMLP, CouplingResNet
from genctl.networks.layers.flow_norm import ActivationNorm, NormKind, flow_norm
from genctl.networks.layers.squeeze import squeeze, unsqueeze
from genctl.randomness import RandomStream
from genctl.registry import register
from genctl.types import DataSpec, LikelihoodKind

Size = Annotated[int, Field(ge=1)]
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Scale(Bijection):
    """Checkerboard couplings, a squeeze, channel couplings (arXiv:1605.08803, section 3.6)."""

    def __init__(self, before: Chain, after: Chain) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, H, W)`` → ``(N, 4C, H/2, W/2)`` and log|det| ``(N,)``."""
        h, first = self.before(x)
        y, second = self.after(squeeze(h))
        return y, first + second

    def inverse(self, y: Tensor) -> Tensor:
        """The input that gives ``y``."""
        return self.before.inverse(unsqueeze(self.after.inverse(y)))


@register("density", "realnvp")
class RealNVP(nn.Module):
    """RealNVP (arXiv:1605.08803): couplings with a tractable Jacobian, a standard normal base.

    Images are dequantised uniformly and taken to the logit of ``alpha + (1 − 2 alpha) v``, with v
    in [0, 1) (section 4.1; here both ends are kept off, the paper's formula leaves 1 at infinity).
    At each scale come checkerboard couplings, a squeeze, channel couplings, and half of the
    channels leave; the last scale has one checkerboard coupling more (section 3.6). An edge that
    is odd, or would fall below two pixels, ends the scales early, so every size works.

    Args:
        spec: the data's facts.
        width: units or features of the networks inside the couplings.
        depth: hidden layers (points) or residual blocks (images) of those networks.
        couplings: couplings with one kind of mask at one scale; for points, couplings in all.
        scales: most squeezes to take; ignored for points.
        norm: after every coupling, batch norm (section 3.7), activation norm, or none.
        alpha: keeps the logit finite at black and white.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Size = 64,
        depth: Size = 2,
        couplings: Size = 3,
        scales: Annotated[int, Field(ge=0)] = 2,
        norm: NormKind = "batch",
        alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05,
    ) -> None:
        super().__init__()
        self.spec, self.alpha = spec, alpha
        self.likelihood_kind: LikelihoodKind = "lower_bound" if spec.kind == "image" else "exact"
        self.scales = nn.ModuleList()
        shape = spec.shape
        if spec.kind == "points":
            masks = [alternating_mask(shape, i % 2) for i in range(couplings)]
            self.last = _couplings(masks, shape[0], width, depth, norm)
            self.last_shape = shape
            return
        for _ in range(scales):
            if shape[1] % 2 or shape[2] % 2 or min(shape[1:]) < 4:
                break
            wide, shape = shape, (4 * shape[0], shape[1] // 2, shape[2] // 2)
            before = [checkerboard_mask(wide, i % 2) for i in range(couplings)]
            after = [channel_mask(shape, i % 2) for i in range(couplings)]
            self.scales.append(
                Scale(
                    _couplings(before, wide[0], width, depth, norm),
                    _couplings(after, shape[0], width, depth, norm),
                )
            )
            shape = (shape[0] // 2, *shape[1:])
        masks = [checkerboard_mask(shape, i % 2) for i in range(couplings + 1)]
        self.last = _couplings(masks, shape[0], width, depth, norm)
        self.last_shape = shape

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Points or images on [0, 1], ``(N, *shape)`` → z ``(N, D)`` and log|det| ``(N,)``."""
        h, log_det = v, v.new_zeros(v.shape[0])
        if self.spec.kind == "image":
            h, log_det = self._logit(v)
        factored = []
        for scale in self.scales:
            h, change = scale(h)
            log_det = log_det + change
            leaves, h = h.chunk(2, dim=1)
            factored.append(leaves.flatten(1))
        h, change = self.last(h)
        return torch.cat([*factored, h.flatten(1)], dim=1), log_det + change

    def inverse(self, z: Tensor) -> Tensor:
        """``(N, D)`` → points, or images on [0, 1] before rounding to levels."""
        sizes = [z.shape[1] // 2 ** (i + 1) for i in range(len(self.scales))]
        *factored, h = z.split([*sizes, z.shape[1] - sum(sizes)], dim=1)
        h = self.last.inverse(h.unflatten(1, self.last_shape))
        for scale, leaves in zip(reversed(self.scales), reversed(factored), strict=True):
            h = torch.cat([leaves.unflatten(1, h.shape[1:]), h], dim=1)
            h = cast("Scale", scale).inverse(h)
        if self.spec.kind == "image":
            return (h.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        return h

    def log_prob(self, x: Tensor, rng: RandomStream) -> Tensor:
        """``(N,)`` nats: the log-density of points, a bound on the log-probability of levels."""
        constant = 0.0
        if self.spec.kind == "image":
            noise = rng.uniform(x.shape[0], *x.shape[1:]).to(x)
            x, constant = dequantise(x, noise, self.spec.levels)
        z, log_det = self(x)
        return (-0.5 * z.square() - HALF_LOG_TWO_PI).sum(1) + log_det + constant

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, *shape)``: images hold exact levels, in [−1, 1]."""
        z = rng.normal(n, self.spec.dimensions).to(next(self.parameters()))
        v = self.inverse(z)
        if self.spec.kind == "points":
            return v
        levels = self.spec.levels
        return from_levels((v * levels).floor().clamp(0, levels - 1), levels)

    def initialise(self, x: Tensor, rng: RandomStream) -> None:
        """Let the activation norms see a first batch; the other norms need no start."""
        for layer in self.modules():
            if isinstance(layer, ActivationNorm):
                layer.initialise_next = True
        self.log_prob(x, rng)

    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, D)``; an image stands for the middle of its levels."""
        if self.spec.kind == "image":
            x = (to_levels(x, self.spec.levels).to(x) + 0.5) / self.spec.levels
        z: Tensor = self(x)[0]
        return z

    def decode(self, z: Tensor) -> Tensor:
        """``(N, D)`` → ``(N, *shape)``: the inverse of ``encode``, images not rounded to levels."""
        v = self.inverse(z)
        if self.spec.kind == "points":
            return v
        # The middle of the lowest level is -1, that of the highest is 1.
        levels = self.spec.levels
        return from_unit((v * levels - 0.5) / (levels - 1)).clamp(-1, 1)

    def _logit(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The unit range to the real line, and log|det| ``(N,)``."""
        p = self.alpha + (1 - 2 * self.alpha) * v
        log_p, log_q = p.log(), (-p).log1p()
        slope = math.log(1 - 2 * self.alpha) - log_p - log_q
        return log_p - log_q, slope.flatten(1).sum(1)


def _couplings(
    masks: Iterable[Tensor], channels: int, width: int, depth: int, norm: NormKind
) -> Chain:
    """One coupling for each mask, each followed by its normalisation."""
    layers: list[Bijection] = []
    for mask in masks:
        network = CouplingMLP if mask.dim() == 1 else CouplingResNet
        layers.append(AffineCoupling(mask, channels, network(channels, width, depth)))
        layers += flow_norm(norm, channels)
    return Chain(layers)
