"""A fully connected autoencoder as discriminator (EBGAN, Zhao et al. 2017, arXiv:1609.03126)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.activation import Activation, Slope, activation_layer
from genctl.networks.layers.noise import Std, noise_layers
from genctl.registry import register
from genctl.types import Discrimination

Size = Annotated[int, Field(ge=1)]


@register("discriminator", "mlp-autoencoder")
class MLPAutoencoder(nn.Module):
    """Energy D(x) = mean over the variables of (x − Dec(Enc(x)))² (section 2.3).

    Args:
        shape: ``(C, H, W)`` or ``(D,)``.
        latent_dim: size of the code.
        width: units of a hidden layer.
        depth: hidden layers of the encoder, and of the decoder.
        activation: of the hidden layers.
        slope: of the leaky ReLU below zero.
        noise: standard deviation of Gaussian noise on what the encoder sees.
    """

    output = "energy"

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: Size = 32,
        width: Size = 256,
        depth: Size = 2,
        activation: Activation = "leaky-relu",
        slope: Slope = 0.2,
        noise: Std = 0.0,
    ) -> None:
        super().__init__()

        def mapped(inputs: int, outputs: int) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for a, b in pairwise([inputs, *[width] * depth]):
                layers += [nn.Linear(a, b), activation_layer(activation, slope)]
            return [*layers, nn.Linear(width, outputs)]

        size = math.prod(shape)
        self.encoder = nn.Sequential(*noise_layers(noise), nn.Flatten(), *mapped(size, latent_dim))
        self.decoder = nn.Sequential(*mapped(latent_dim, size), nn.Unflatten(1, shape))

    def forward(self, x: Tensor) -> Discrimination:
        """``(N, *shape)`` → energy ``(N,)`` and the code ``(N, latent_dim)`` as features."""
        code = self.encoder(x)
        error = (x - self.decoder(code)).float().flatten(1)
        return Discrimination(error.square().mean(1), code.float())
