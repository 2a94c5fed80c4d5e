"""The restricted Boltzmann machine, trained by Gibbs chains that no gradient goes through."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from genctl.contracts import GenerativeModel, Update
from genctl.data.ranges import from_unit, to_unit
from genctl.distributions.bernoulli import require_binary
from genctl.distributions.partition import (
    BinaryModel,
    Partition,
    annealed,
    enumerable,
    enumerated,
)
from genctl.networks.binary_energy import BinaryEnergy
from genctl.randomness import RandomStream
from genctl.registry import register
from genctl.types import Batch, Batches, DataSpec, Likelihood

Size = Annotated[int, Field(ge=1)]

BATCHES_FOR_BIASES = 50
"""Batches over which ``initialise`` averages the pixels."""


@register("model", "rbm")
class RestrictedBoltzmannMachine(GenerativeModel):
    """Binary visible and hidden units (Smolensky 1986; Hinton 2002). Needs binarised images.

    ``sample`` starts at the pixels' base rates, runs ``sample_steps`` Gibbs steps and shows the
    probabilities of the last step as grey values, since they carry less noise than the draw itself.

    Args:
        spec: facts of the data; images of two levels.
        width: hidden units.
        chain: where the negative phase starts: ``contrastive`` from the batch (CD-k, Hinton 2002),
            ``persistent`` from where it ended (PCD, also SML; Tieleman 2008).
        k: Gibbs steps of the negative phase.
        chains: persistent chains; they are the same on every rank.
        sample_steps: Gibbs steps of ``sample`` and ``complete``.
        ais_chains: annealed runs of the estimate of log Z, where it cannot be enumerated.
        ais_temperatures: temperatures of each run.
    """

    players = {"energy": ("energy",)}  # noqa: RUF012
    averaged = ("energy",)
    rare = ("pseudo_likelihood",)
    base_logits: Tensor
    particles: Tensor | None

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: Size = 500,
        chain: Literal["contrastive", "persistent"] = "persistent",
        k: Size = 1,
        chains: Size = 100,
        sample_steps: Size = 1000,
        ais_chains: Annotated[int, Field(ge=2)] = 100,
        ais_temperatures: Annotated[int, Field(ge=3)] = 14500,
    ) -> None:
        super().__init__()
        require_binary(spec, "model.kind=rbm")
        self.shape = tuple(spec.shape)
        self.energy = BinaryEnergy(spec.dimensions, width)
        self.k, self.sample_steps = k, sample_steps
        self.ais_chains, self.ais_temperatures = ais_chains, ais_temperatures
        self.register_buffer("base_logits", torch.zeros(spec.dimensions))
        persistent = torch.zeros(chains, spec.dimensions) if chain == "persistent" else None
        self.register_buffer("particles", persistent)
        self._known: tuple[tuple[str, int | str], Partition] | None = None

    @torch.no_grad()
    def initialise(self, batches: Batches, rng: RandomStream) -> None:
        """Visible biases and chains from the pixels' base rates (Hinton 2010, section 8.1)."""
        ones, rows = torch.zeros_like(self.base_logits), 0
        for _ in range(BATCHES_FOR_BIASES):
            v = self._units(next(batches).x)
            ones, rows = ones + v.sum(0), rows + v.shape[0]
        rate = (ones + 1.0) / (rows + 2.0)  # Laplace's rule: pixels that never change stay finite
        self.base_logits.copy_(torch.logit(rate))
        self.energy.visible_bias.copy_(self.base_logits)
        if self.particles is not None:
            self.particles.copy_(rng.bernoulli(rate.expand_as(self.particles)))

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        """Stochastic maximum likelihood: ∂ log p = −∂F(data) + ∂F(chain)."""
        batch = next(batches)
        v = self._units(batch.x)
        if self.particles is None:
            chain = self.energy.gibbs(v, update.rng, self.k)
        else:
            # Every rank runs the same chains, so one checkpoint holds them all.
            chain = self.energy.gibbs(self.particles, update.rng.shared("chain"), self.k)
            self.particles.copy_(chain)
        update("energy", lambda: self.loss(v, chain))
        if not update.logging:
            return {}
        return {"pseudo_likelihood": self.energy.pseudo_likelihood(v, update.rng).mean()}

    def loss(self, v: Tensor, chain: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """F(data) − F(chain): its gradient is minus that of the mean log-likelihood.

        Args:
            v: ``(N, visible)`` data, zeros and ones.
            chain: ``(M, visible)`` draws from the model, zeros and ones.
        """
        data, model = self.energy(v).mean(), self.energy(chain).mean()
        return data - model, {"energy/data": data, "energy/chain": model}

    @torch.no_grad()
    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        """``(n, *shape)`` in [−1, 1]: the mean-field last step of a Gibbs chain."""
        rates = self.base_logits.sigmoid().expand(n, -1)
        v = self.energy.gibbs(rng.bernoulli(rates), rng, self.sample_steps - 1)
        h = rng.bernoulli(self.energy.hidden_logits(v).sigmoid())
        return self._picture(self.energy.visible_logits(h).sigmoid())

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, *shape)``: mean field up and down."""
        return self._picture(self.energy.visible_logits(self.features(x)).sigmoid())

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` → ``(N, width)``: probabilities of the hidden units."""
        return self.energy.hidden_logits(self._units(x)).sigmoid()

    @torch.no_grad()
    def complete(self, x: Tensor, mask: Tensor, rng: RandomStream) -> Tensor:
        """Gibbs sampling with the pixels clamped where ``mask`` ``(N, 1, H, W)`` is 1."""
        given, kept = self._units(x), mask.expand_as(x).flatten(1).bool()
        start = rng.bernoulli(self.base_logits.sigmoid().expand_as(given))
        v = torch.where(kept, given, start)
        for _ in range(self.sample_steps):
            v = torch.where(kept, given, self.energy.gibbs(v, rng, 1))
        return self._picture(v)

    @torch.no_grad()
    def log_likelihood(self, batch: Batch, rng: RandomStream) -> Likelihood:
        """−F(v) − log Z, ``(N,)`` nats: exact if a layer has at most 20 units, else by AIS."""
        partition = self.log_partition(rng)
        values = -self.energy(self._units(batch.x)) - partition.value
        return Likelihood(values, "exact" if partition.error == 0 else "estimate", partition.detail)

    def log_partition(self, rng: RandomStream) -> Partition:
        """Log Z of the present weights; kept, since every batch of an evaluation needs it.

        Args:
            rng: of its address only the seed counts, so that every batch gets the same estimate.
        """
        model = BinaryModel(self.energy.weight, self.energy.visible_bias, self.energy.hidden_bias)
        content = b"".join(p.detach().cpu().numpy().tobytes() for p in model)
        key = (hashlib.blake2b(content).hexdigest(), rng.address[0])
        if self._known is None or self._known[0] != key:
            if enumerable(model):
                found = enumerated(model)
            else:
                noise = RandomStream(0, device=rng.device)
                noise.address = (rng.address[0], "annealing")
                setting = self.ais_chains, self.ais_temperatures
                found = annealed(model, self.base_logits, noise, *setting)
            self._known = (key, found)
        return self._known[1]

    def _units(self, x: Tensor) -> Tensor:
        """``(N, *shape)`` in [−1, 1] → ``(N, visible)`` zeros and ones."""
        return to_unit(x).flatten(1)

    def _picture(self, probabilities: Tensor) -> Tensor:
        return from_unit(probabilities).unflatten(1, self.shape)
