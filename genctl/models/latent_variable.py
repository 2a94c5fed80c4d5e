"""Latent variables with a likelihood: the variational autoencoder and its presets."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genctl.contracts import DecoderPart, EncoderPart, PriorPart
from genctl.distributions.likelihoods import LikelihoodPart
from genctl.distributions.posteriors import PosteriorPart, divergence
from genctl.distributions.priors import Bounded
from genctl.errors import ConfigError
from genctl.models.autoencoder import Coder, corrupt, full_precision
from genctl.objectives.variational import importance_weighted_bound, negative_elbo
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batch, DataSpec, Likelihood

Size = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]

DECODED_VALUES = 2**22
"""Pixels decoded at once by the importance-weighted bound: limits memory, not the result."""


@register("model", "latent-variable")
class LatentVariableModel(Coder):
    """Variational autoencoder (arXiv:1312.6114): p(z), p(x|z) and an encoder q(z|x).

    Args:
        spec: facts of the data.
        latent_dim: numbers in one latent.
        encoder: network from an example to the posterior's statistics.
        decoder: network from a latent to the likelihood's location or logits.
        prior: p(z); it must have a density everywhere the posterior reaches.
        posterior: family of q(z|x).
        likelihood: family of p(x|z).
        kl_weight: β; 1 is the bound on log p(x).
        observation_noise: whether samples carry the noise of p(x|z); null: points do, pictures show
            its mean, as the papers do.
        noise: denoising switch: standard deviation of noise added to the encoder's input.
        mask: denoising switch: share of the encoder's input pixels that are blackened.
        importance_samples: k of the importance-weighted bound that ``log_likelihood`` reports.
    """

    players = {"autoencoder": ("encoder", "decoder", "likelihood")}  # noqa: RUF012
    averaged = ("encoder", "decoder", "likelihood")

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: Size = 32,
        encoder: EncoderPart = default("encoder", "mlp"),
        decoder: DecoderPart = default("decoder", "mlp"),
        prior: PriorPart = default("prior", "gaussian"),
        posterior: PosteriorPart = default("posterior", "gaussian"),
        likelihood: LikelihoodPart = default("likelihood", "gaussian"),
        kl_weight: NonNegative = 1.0,
        observation_noise: bool | None = None,
        noise: NonNegative = 0.0,
        mask: Share = 0.0,
        importance_samples: Size = 128,
    ) -> None:
        family, codes = posterior(latent_dim), prior(latent_dim)
        if isinstance(codes, Bounded):
            problem = "the posterior reaches where this prior has no density"
            raise ConfigError("model.prior", [problem], "set model.prior=gaussian")
        networks = encoder(spec.shape, family.outputs), decoder(latent_dim, spec.shape)
        super().__init__(*networks, codes, noise, mask)
        self.posterior, self.likelihood = family, likelihood(spec)
        self.kl_weight, self.importance_samples = kl_weight, importance_samples
        noisy = spec.kind == "points" if observation_noise is None else observation_noise
        self.observation_noise = noisy

    def loss(self, batch: Batch, rng: RandomStream) -> tuple[Tensor, dict[str, Tensor]]:
        """Algorithm 1 of arXiv:1312.6114 with one latent per example (estimator B, eq. 7)."""
        seen = corrupt(batch.x, self.noise, self.mask, rng)
        q = self.posterior(full_precision(self.encoder(seen)))
        z = q.rsample(rng)
        log_likelihood = self.likelihood.log_prob(full_precision(self.decoder(z)), batch.x)
        kl = divergence(q, self.prior, z)
        loss = negative_elbo(log_likelihood, kl, self.kl_weight).mean()
        return loss, {"reconstruction": -log_likelihood.mean(), "kl": kl.mean()}

    def decode(self, z: Tensor) -> Tensor:
        """``(n, latent_dim)`` → ``(n, *shape)``: the mean of p(x|z), pictures in [−1, 1]."""
        return self.likelihood.mean(full_precision(self.decoder(z)))

    @torch.no_grad()
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)``: z from the prior, then p(x|z), its noise only if so configured."""
        z = self.sample_latent(n, rng)
        if not self.observation_noise:
            return self.decode(z)
        return self.likelihood.sample(full_precision(self.decoder(z)), rng)

    def encode(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, latent_dim)``: the posterior's mode."""
        return self.posterior(full_precision(self.encoder(x))).mode

    @torch.no_grad()
    def log_likelihood(self, batch: Batch, rng: RandomStream) -> Likelihood:
        """Importance-weighted lower bound on log p(x) (arXiv:1509.00519, eq. 8), ``(N,)`` nats."""
        x, k = batch.x, self.importance_samples
        q = self.posterior(full_precision(self.encoder(x)))
        at_once = max(1, DECODED_VALUES // x.numel())
        rows: list[Tensor] = []
        for first in range(0, k, at_once):
            # Each draw is a call of its own, so that the chunks do not show in the result.
            draws = [q.sample(rng) for _ in range(first, min(k, first + at_once))]
            z = torch.stack(draws)
            copies = x.expand(len(draws), *x.shape).flatten(0, 1)
            output = full_precision(self.decoder(z.flatten(0, 1)))
            log_p = self.likelihood.log_prob(output, copies).unflatten(0, z.shape[:2])
            log_q = torch.stack([q.log_prob(draw) for draw in draws])
            rows.append(log_p + self.prior.log_prob(z) - log_q)
        bound = importance_weighted_bound(torch.cat(rows))
        return Likelihood(bound, "lower_bound", f"importance-weighted, k = {k}")
