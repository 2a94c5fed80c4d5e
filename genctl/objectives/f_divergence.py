"""f-GAN: any f-divergence as a game (Nowozin et al. 2016, arXiv:1606.00709).

D_f(P‖Q) ≥ sup_T E_P T(x) − E_Q f*(T(x)) (eq. 4), with T = g_f(v) an output activation that keeps
the network's free score v in the domain of the conjugate f* (table 2). Written out in v, as here,
no ``exp`` meets its ``log`` and every entry is exact for scores of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from genctl.registry import register


class Divergence(NamedTuple):
    """An output activation, and the conjugate of what it gives."""

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]


def _identity(v: Tensor) -> Tensor:
    return v


_LARGE = 30.0


def _log_sigmoid(v: Tensor) -> Tensor:
    return -softplus(-v)


DIVERGENCES = {
    # f(u) = u log u; T = v, f*(t) = exp(t − 1).
    "kl": Divergence(_identity, lambda v: (v - 1.0).exp()),
    # f(u) = −log u; T = −exp(−v), f*(t) = −1 − log(−t).
    "reverse-kl": Divergence(lambda v: -(-v).exp(), lambda v: v - 1.0),
    # f(u) = (u − 1)²; T = v, f*(t) = t²/4 + t.
    "pearson": Divergence(_identity, lambda v: v.square() / 4.0 + v),
    # f(u) = (√u − 1)²; T = 1 − exp(−v), f*(t) = t / (1 − t).
    "hellinger": Divergence(lambda v: -torch.expm1(-v), lambda v: torch.expm1(v)),
    # f(u) = u log u − (u + 1) log((u + 1)/2), which is 2·JSD; T = log 2 − log(1 + exp(−v)),
    # f*(t) = −log(2 − exp t).
    "js": Divergence(lambda v: math.log(2) + _log_sigmoid(v), lambda v: softplus(v) - math.log(2)),
    # f(u) = u log u − (u + 1) log(u + 1), which is 2·JSD − log 4; T = −log(1 + exp(−v)),
    # f*(t) = −log(1 − exp t): the discriminator of the first GAN.
    "gan": Divergence(_log_sigmoid, softplus),
    # f(u) = ½|u − 1|; T = ½ tanh v, f*(t) = t: reached only as v → ±∞.
    "tv": Divergence(lambda v: 0.5 * v.tanh(), lambda v: 0.5 * v.tanh()),
}


def weighted_js(share: float) -> Divergence:
    """JS_π = π KL(P ‖ πP + (1−π)Q) + (1−π) KL(Q ‖ πP + (1−π)Q), table 2's last row.

    T = −π log π − log(1 + exp(−v)), f*(t) = (1−π) log((1−π) / (1 − π exp(t/π))).
    """

    def conjugate(v: Tensor) -> Tensor:
        # π exp(T/π) = σ(v)^(1/π), of which log(1 − …) is taken without leaving the logarithm; for
        # large v it is log(softplus(−v)/π) = −v − log π to the last bit.
        power = softplus(-v.clamp(max=_LARGE)) / share
        near, far = (-torch.expm1(-power)).log(), -v - math.log(share)
        return (1.0 - share) * (math.log1p(-share) - torch.where(v > _LARGE, far, near))

    return Divergence(lambda v: _log_sigmoid(v) - share * math.log(share), conjugate)


@register("objective", "f-divergence")
class FDivergence:
    """The variational bound on an f-divergence (eq. 6, single-step algorithm 1).

    The negative of the discriminator's loss is the bound itself.

    Args:
        divergence: ``kl`` is KL(p_data ‖ p_g); ``hellinger`` is squared; ``js`` is twice
            Jensen–Shannon's; ``weighted-js`` is JS_π.
        share: π of ``weighted-js``.
        generator: ``bound`` descends the bound; ``heuristic`` ascends E T(G(z)), whose gradient
            does not vanish where the discriminator is sure (section 3.2).
    """

    output = "value"

    def __init__(
        self,
        *,
        divergence: Literal[
            "kl", "reverse-kl", "pearson", "hellinger", "js", "gan", "tv", "weighted-js"
        ] = "js",
        share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        generator: Literal["bound", "heuristic"] = "bound",
    ) -> None:
        weighted = divergence == "weighted-js"
        self.divergence = weighted_js(share) if weighted else DIVERGENCES[divergence]
        self.heuristic = generator == "heuristic"

    def real(self, score: Tensor) -> Tensor:
        """−T(x), ``(N,)`` → ``(N,)``."""
        return -self.divergence.activation(score)

    def fake(self, score: Tensor) -> Tensor:
        """f*(T(G(z))), ``(N,)`` → ``(N,)``."""
        return self.divergence.conjugate(score)

    def generator(self, score: Tensor) -> Tensor:
        """−f*(T(G(z))), or −T(G(z))."""
        if self.heuristic:
            return -self.divergence.activation(score)
        return -self.divergence.conjugate(score)
