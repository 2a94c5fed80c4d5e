"""Objectives of the two-player game, from logits or critic values, one number per example.

The discriminator minimises ``real(D(x)) + fake(D(G(z)))`` in expectation, the generator
``generator(D(G(z)))``. σ is the logistic function; −log σ(v) = softplus(−v), −log(1−σ(v)) =
softplus(v). Scores with more than one axis (patches) must be reduced to ``(N,)`` before.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from genctl.registry import register

Target = Annotated[float, Field(gt=0.5, le=1)]


class _Classification:
    """The discriminator as a binary classifier (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1).

    Args:
        real_target: 1, or 0.9 for one-sided label smoothing (Salimans et al. 2016, section 3.4):
            only the target of real examples is moved, never that of generated ones.
    """

    output = "logit"

    def __init__(self, *, real_target: Target = 1.0) -> None:
        self.real_target = real_target

    def real(self, score: Tensor) -> Tensor:
        """−t log σ(D(x)) − (1−t) log(1−σ(D(x))), ``(N,)`` → ``(N,)`` nats."""
        return softplus(-score) + (1.0 - self.real_target) * score

    def fake(self, score: Tensor) -> Tensor:
        """−log(1−σ(D(G(z)))), ``(N,)`` → ``(N,)`` nats."""
        return softplus(score)


@register("objective", "non-saturating")
class NonSaturating(_Classification):
    """The heuristic game: the generator maximises log σ(D(G(z))) (arXiv:1406.2661, section 3).

    At the equilibrium the discriminator's loss is 2 log 2 and the generator's log 2.
    """

    def generator(self, score: Tensor) -> Tensor:
        """−log σ(D(G(z))): its gradient does not vanish where D is sure."""
        return softplus(-score)


@register("objective", "minimax")
class Minimax(_Classification):
    """The zero-sum game: the generator minimises log(1−σ(D(G(z)))) (arXiv:1406.2661, eq. 1).

    Its gradient vanishes as D(G(z)) → −∞. At the equilibrium the generator's loss is −log 2.
    """

    def generator(self, score: Tensor) -> Tensor:
        """log(1−σ(D(G(z))))."""
        return -softplus(score)


@register("objective", "wasserstein")
class Wasserstein:
    """The dual of the Wasserstein-1 distance (Arjovsky et al. 2017, arXiv:1701.07875, eq. 2).

    The score is a critic value f, without bound and without zero: E f(x) − E f(G(z)) is K·W₁ for
    the best f whose slope is at most K. Only a constraint or a penalty holds that slope.
    """

    output = "critic"

    def real(self, score: Tensor) -> Tensor:
        """−f(x), ``(N,)`` → ``(N,)``."""
        return -score

    def fake(self, score: Tensor) -> Tensor:
        """f(G(z)), ``(N,)`` → ``(N,)``."""
        return score

    def generator(self, score: Tensor) -> Tensor:
        """−f(G(z)), ``(N,)`` → ``(N,)``."""
        return -score
