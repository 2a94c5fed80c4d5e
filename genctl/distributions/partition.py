"""log Z of a binary energy E(v, h) = −b·v − c·h − v·W·h: by enumeration, or by annealing."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from genctl.randomness import RandomStream

ENUMERABLE = 20
"""Most units whose 2^n states are enumerated."""
STATES_AT_ONCE = 4096


class BinaryModel(NamedTuple):
    """Parameters of the energy.

    Attributes:
        weight: W, ``(visible, hidden)``.
        visible_bias: b, ``(visible,)``.
        hidden_bias: c, ``(hidden,)``.
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor


class Partition(NamedTuple):
    """log Z in nats, and the standard error of an estimate (0 when exact)."""

    value: float
    error: float
    detail: str


def enumerable(model: BinaryModel) -> bool:
    """Whether the smaller of the two layers has few enough units to go through all its states."""
    return min(model.weight.shape) <= ENUMERABLE


@torch.no_grad()
def enumerated(model: BinaryModel) -> Partition:
    """Log Z = log Σ_h exp(c·h + Σ_i softplus(b + W h)_i), over the smaller layer, in float64."""
    weight, others, own = (_precise(t) for t in model)
    if weight.shape[0] < weight.shape[1]:
        weight, others, own = weight.T, own, others
    units = own.numel()
    bits = torch.arange(units, device=own.device)
    parts: list[Tensor] = []
    for first in range(0, 2**units, STATES_AT_ONCE):
        last = min(2**units, first + STATES_AT_ONCE)
        numbers = torch.arange(first, last, device=own.device)
        states = ((numbers.unsqueeze(1) >> bits) & 1).to(own)
        terms = states @ own + F.softplus(others + states @ weight.T).sum(1)
        parts.append(torch.logsumexp(terms, 0))
    value = torch.logsumexp(torch.stack(parts), 0)
    return Partition(float(value), 0.0, f"log Z by enumeration of 2^{units} states")


def temperatures(count: int) -> Tensor:
    """Inverse temperatures from 0 to 1, ``(count + 1,)`` float64, closer where the work is.

    In the shares of Salakhutdinov & Murray 2008, section 5: 500 up to 0.5, 4,000 up to 0.9 and
    10,000 up to 1, of 14,500.
    """
    first, second = max(1, round(count * 500 / 14500)), max(1, round(count * 4000 / 14500))
    third = max(1, count - first - second)
    double = torch.float64
    return torch.cat(
        [
            torch.linspace(0.0, 0.5, first + 1, dtype=double)[:-1],
            torch.linspace(0.5, 0.9, second + 1, dtype=double)[:-1],
            torch.linspace(0.9, 1.0, third + 1, dtype=double),
        ]
    )


@torch.no_grad()
def annealed(
    model: BinaryModel, base_logits: Tensor, rng: RandomStream, chains: int, count: int
) -> Partition:
    """Annealed importance sampling (Salakhutdinov & Murray 2008, section 4.1).

    The unnormalised densities between the base-rate model and the machine are (their eq. 17, with
    no hidden biases in the base)

        p*_β(v) = exp(((1 − β) a + β b)·v) · Π_j (1 + exp(β (c + v W)_j)),

    so log Z_0 = Σ_i softplus(a_i) + hidden · log 2.

    Args:
        model: the machine.
        base_logits: a, ``(visible,)``: logits of the data's means.
        rng: noise; a chain's path depends on its row.
        chains: independent runs; the error is computed from their spread.
        count: temperatures.
    """
    weight, visible_bias, hidden_bias = model
    betas = temperatures(count).tolist()
    shift = visible_bias - base_logits
    v = rng.bernoulli(base_logits.sigmoid().expand(chains, -1))
    log_weights = torch.zeros(chains, device=weight.device, dtype=_wide(weight))
    for before, after in itertools.pairwise(betas):
        field = torch.addmm(hidden_bias, v, weight)
        hidden = F.softplus(after * field) - F.softplus(before * field)
        log_weights += (after - before) * (v @ shift) + hidden.sum(1)
        h = rng.bernoulli((after * field).sigmoid())
        inner = torch.addmm(visible_bias, h, weight.T)
        v = rng.bernoulli(((1.0 - after) * base_logits + after * inner).sigmoid())
    start = float(F.softplus(base_logits).sum()) + hidden_bias.numel() * math.log(2.0)
    mean = torch.logsumexp(log_weights, 0) - math.log(chains)
    # Delta method: the error of log(mean w) is the relative error of mean w.
    error = float((log_weights - mean).exp().std() / math.sqrt(chains))
    value = start + float(mean)
    detail = f"log Z by AIS, {chains} chains, {count} temperatures: {value:.2f} ± {error:.2f}"
    return Partition(value, error, detail)


def _wide(t: Tensor) -> torch.dtype:
    return torch.float32 if t.device.type == "mps" else torch.float64


def _precise(t: Tensor) -> Tensor:
    """Float64, on the CPU where the device has none."""
    return t.detach().cpu().double() if t.device.type == "mps" else t.detach().double()
