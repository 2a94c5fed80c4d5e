"""Autoencoders whose code has no distribution: plain and denoising."""

from __future__ import annotations

import abc
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.contracts import (
    DecoderPart,
    EncoderPart,
    GenerativeModel,
    Prior,
    PriorPart,
    Update,
)
from genctl.objectives.reconstruction import ReconstructionPart
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batch, Batches, DataSpec

Size = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


def corrupt(x: Tensor, noise: float, mask: float, rng: RandomStream) -> Tensor:
    """The input a denoising autoencoder sees (Vincent et al. 2008, section 2.3).

    Args:
        x: ``(N, *shape)`` in [−1, 1], or points.
        noise: standard deviation of added Gaussian noise, on the scale of ``x``.
        mask: share of the pixels (all channels at once) set to black, of coordinates set to 0.
        rng: training noise.
    """
    if noise:
        x = x + noise * rng.normal(x.shape[0], *x.shape[1:]).to(x)
    if mask:
        picture = x.dim() == 4
        place = (1, *x.shape[2:]) if picture else x.shape[1:]
        hidden = rng.uniform(x.shape[0], *place).to(x.device) < mask
        x = x.masked_fill(hidden, -1.0 if picture else 0.0)
    return x


def full_precision(x: Tensor) -> Tensor:
    """Half-precision activations as float32, because nats are sums of many small terms."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Coder(GenerativeModel, abc.ABC):
    """What all autoencoders share: two networks, one player, codes from a prior."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: Prior, noise: float, mask: float
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.noise, self.mask = noise, mask

    @abc.abstractmethod
    def loss(self, batch: Batch, rng: RandomStream) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise on a batch, and metrics."""

    @abc.abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``, pictures in [−1, 1]."""

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, latent_dim)``."""

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """One gradient step on a fresh batch."""
        update("autoencoder", lambda batch: self.loss(batch, update.rng), next(batches))
        return {}

    @torch.no_grad()
    def sample_latent(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, latent_dim)`` draws from the prior."""
        return self.prior.sample(n, rng)

    @torch.no_grad()
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)``: random codes, decoded."""
        return self.decode(self.sample_latent(n, rng))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, *shape)``."""
        return self.decode(self.encode(x))


@register("model", "autoencoder")
class Autoencoder(Coder):
    """Encoder and decoder that reconstruct; decoding random codes shows it is no generative model.

    Args:
        spec: facts of the data.
        latent_dim: numbers in one code.
        encoder: network from an example to a code.
        decoder: network from a code to an example.
        prior: where ``sample`` takes random codes from; training does not know it.
        reconstruction: distance that is minimised.
        noise: denoising switch: standard deviation of noise added to the encoder's input.
        mask: denoising switch: share of the input's pixels that are blackened.
    """

    players = {"autoencoder": ("encoder", "decoder")}  # noqa: RUF012
    averaged = ("encoder", "decoder")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: Size = 32,
        encoder: EncoderPart = default("encoder", "mlp"),
        decoder: DecoderPart = default("decoder", "mlp"),
        prior: PriorPart = default("prior", "gaussian"),
        reconstruction: ReconstructionPart = default("reconstruction", "l2"),
        noise: NonNegative = 0.0,
        mask: Share = 0.0,
    ) -> None:
        networks = encoder(spec.shape, latent_dim), decoder(latent_dim, spec.shape)
        super().__init__(*networks, prior(latent_dim), noise, mask)
        self.distance = reconstruction()
        self.picture = spec.kind == "image"

    def loss(self, batch: Batch, rng: RandomStream) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance of the clean example from what is decoded out of the corrupted one."""
        code = self.encoder(corrupt(batch.x, self.noise, self.mask, rng))
        reconstruction = self.distance(full_precision(self.decoder(code)), batch.x).mean()
        return reconstruction, {"reconstruction": reconstruction}

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``, pictures in [−1, 1]."""
        x = self.distance.picture(full_precision(self.decoder(z)))
        return x.clamp(-1.0, 1.0) if self.picture else x

    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, latent_dim)``."""
        return full_precision(self.encoder(x))
