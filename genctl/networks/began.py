"""BEGAN's networks (Berthelot et al. 2017, arXiv:1703.10717, figure 1).

A decoder of 3×3 convolutions and ELUs that doubles the resolution by repeating pixels; an encoder
whose channels grow linearly as it halves the resolution by strided convolution. The generator is
the decoder; the discriminator is encoder and decoder, and its score is the reconstruction error.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.halving import halvings_to_eight
from genctl.networks.layers.resampling import Nearest
from genctl.registry import register
from genctl.types import Discrimination

Width = Annotated[int, Field(ge=1)]


def _conv(inputs: int, outputs: int, stride: int = 1) -> Conv2d:
    return Conv2d(inputs, outputs, 3, stride, 1)


class Decoder(nn.Module):
    """``(N, latent_dim)`` → ``(N, C, H, W)``, unbounded as in the paper."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int, depth: int) -> None:
        super().__init__()
        ups = halvings_to_eight(shape, "began")
        self.base = (width, shape[1] >> ups, shape[2] >> ups)
        self.project = nn.Linear(latent_dim, width * self.base[1] * self.base[2])
        layers: list[nn.Module] = []
        for level in range(ups + 1):
            for _ in range(depth):
                layers += [_conv(width, width), nn.ELU(inplace=True)]
            if level < ups:
                layers.append(Nearest())
        self.layers = nn.Sequential(*layers, _conv(width, shape[0]))
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        """Decode."""
        h = self.project(z).unflatten(1, self.base)
        out: Tensor = self.layers(h.contiguous(memory_format=torch.channels_last))
        return out


class Encoder(nn.Module):
    """``(N, C, H, W)`` → ``(N, code_dim)``."""

    def __init__(self, shape: tuple[int, ...], code_dim: int, width: int, depth: int) -> None:
        super().__init__()
        downs = halvings_to_eight(shape, "began")
        layers: list[nn.Module] = [_conv(shape[0], width), nn.ELU(inplace=True)]
        for level in range(1, downs + 2):
            for _ in range(depth):
                layers += [_conv(width * level, width * level), nn.ELU(inplace=True)]
            if level <= downs:
                layers += [_conv(width * level, width * (level + 1), 2), nn.ELU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        flat = width * (downs + 1) * (shape[1] >> downs) * (shape[2] >> downs)
        self.code = nn.Linear(flat, code_dim)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        features = self.layers(x.contiguous(memory_format=torch.channels_last))
        out: Tensor = self.code(features.flatten(1))
        return out


@register("generator", "began")
class BEGANGenerator(Decoder):
    """The decoder, from z to an image.

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)``.
        width: channels n, constant over resolutions.
        depth: 3×3 convolutions at each resolution.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        *,
        width: Width = 128,
        depth: Annotated[int, Field(ge=1)] = 2,
    ) -> None:
        super().__init__(latent_dim, shape, width, depth)


@register("discriminator", "autoencoder")
class AutoencoderDiscriminator(nn.Module):
    """Energy L(v) = mean over the image of abs(v − D(v))^η, η ∈ {1, 2} (section 3.1).

    Args:
        shape: ``(C, H, W)``.
        latent_dim: size of the code h.
        width: channels n; the encoder has n, 2n, 3n, … over its resolutions.
        depth: 3×3 convolutions at each resolution.
        error: ``l1`` (η = 1) or ``l2`` (η = 2).
    """

    output = "energy"

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: Annotated[int, Field(ge=1)] = 64,
        width: Width = 128,
        depth: Annotated[int, Field(ge=1)] = 2,
        error: Literal["l1", "l2"] = "l1",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(shape, latent_dim, width, depth)
        self.decoder = Decoder(latent_dim, shape, width, depth)
        self.error = error

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, C, H, W)`` → energy ``(N,)`` and the code ``(N, latent_dim)`` as features."""
        code = self.encoder(x)
        difference = (x - self.decoder(code)).float().abs().flatten(1)
        energy = difference if self.error == "l1" else difference.square()
        return Discrimination(energy.mean(1), code.float())
