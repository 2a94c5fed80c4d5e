"""The peers' loops with the simple levers pulled by hand, as someone would who knows them all.

Pictures batchwise from a uint8 tensor, channels_last, bfloat16 autocast, fused Adam, no weight
gradients of D in G's step, no ``.item()``. What genctl reaches is read beside them: a goal that these
loops miss on a machine is out of reach there of these levers, whoever pulls them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def batchwise(examples: Tensor, batch_size: int, normalise: bool = True) -> Iterator[Tensor]:
    """Shuffled batches of a uint8 tensor, turned to floats a batch at a time."""
    examples = examples.contiguous(memory_format=torch.channels_last)
    while True:
        order = torch.randperm(len(examples))
        for rows in order[: len(order) // batch_size * batch_size].split(batch_size):
            x = examples[rows].float()
            yield x.div_(127.5).sub_(1) if normalise else x.div_(255)


ready = item_by_item = batchwise  # under the names of the peers'


def _in_bfloat16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def _prepared(optimiser: torch.optim.Optimizer, *networks: nn.Module) -> torch.optim.Optimizer:
    for network in networks:
        network.to(memory_format=torch.channels_last)
    return torch.optim.Adam(optimiser.param_groups[0]["params"], **_settings(optimiser), fused=True)


def _settings(optimiser: torch.optim.Optimizer) -> dict:
    return {key: optimiser.defaults[key] for key in ("lr", "betas")}


class _Players:
    """Both players' networks and optimisers, prepared."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.of_d = _prepared(self.of_d, self.d)
        self.of_g = _prepared(self.of_g, self.g)


class GANLoop(_Players, peers.GANLoop):
    """Both players in bfloat16; D is frozen while G learns."""

    def step(self) -> peers.Losses:
        real = next(self.data)
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        self.d.zero_grad()
        with _in_bfloat16():
            fake = self.g(self.noise(len(real)))
            scores = self.d(real).float(), self.d(fake.detach()).float()
        (self.criterion(scores[0], ones) + self.criterion(scores[1], zeros)).backward()
        self.of_d.step()
        self.g.zero_grad()
        self.d.requires_grad_(False)
        with _in_bfloat16():
            score = self.d(fake).float()
        self.criterion(score, ones).backward()
        self.d.requires_grad_(True)
        self.of_g.step()
        return {}


class WGANGPLoop(_Players, peers.WGANGPLoop):
    """The penalty's slope by ``autograd.grad`` under autocast too."""

    def step(self) -> peers.Losses:
        for _ in range(5):
            real = next(self.data)
            self.d.zero_grad()
            self.critic_loss(real).backward()
            self.of_d.step()
        self.g.zero_grad()
        self.d.requires_grad_(False)
        with _in_bfloat16():
            score = self.d(self.g(peers._shaped(torch.randn(len(real), self.latent), self.g)))
        (-score.float().mean()).backward()
        self.d.requires_grad_(True)
        self.of_g.step()
        return {}

    def critic_loss(self, real: Tensor) -> Tensor:
        n = len(real)
        with _in_bfloat16():
            with torch.no_grad():
                fake = self.g(peers._shaped(torch.randn(n, self.latent), self.g)).float()
            share = torch.rand(n, 1, 1, 1)
            mixed = (share * real + (1 - share) * fake).requires_grad_()
            score = self.d(mixed).float()
            difference = self.d(fake).float().mean() - self.d(real).float().mean()
        (slope,) = torch.autograd.grad(score.sum(), mixed, create_graph=True)
        return difference + 10 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()


class VAELoop(peers.VAELoop):
    """Probabilities of bfloat16 reach 1: they are kept off it."""

    def __init__(self, network: peers.VAE, data: Iterator[Tensor]) -> None:
        super().__init__(network, data)
        self.optimiser = _prepared(self.optimiser)

    def step(self) -> peers.Losses:
        x = next(self.data)
        self.optimiser.zero_grad()
        with _in_bfloat16():
            seen, mean, log_variance = (out.float() for out in self.network(x))
        error = F.binary_cross_entropy(seen.clamp(1e-6, 1 - 1e-6), x.flatten(1), reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        (error + kl).backward()
        self.optimiser.step()
        return {}
