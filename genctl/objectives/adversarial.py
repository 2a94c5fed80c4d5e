"""Objectives of the two-player game, from logits or critic values, one number per example.

The discriminator minimises ``real(D(x)) + fake(D(G(z)))`` in expectation, the generator
``generator(D(G(z)))``. σ is the logistic function; −log σ(v) = softplus(−v), −log(1−σ(v)) =
softplus(v). Scores with more than one axis (patches) must be reduced to ``(N,)`` before.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu, softplus

from genctl.errors import ConfigError
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
        loss = softplus(-score)
        return loss if self.real_target == 1.0 else loss + (1.0 - self.real_target) * score

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


@register("objective", "maximum-likelihood")
class MaximumLikelihood(_Classification):
    """The generator follows the gradient of KL(p_data ‖ p_g) (arXiv:1412.6515, section 4).

    With the best discriminator exp(D(x)) = p_data(x) / p_g(x), so that the descent of
    −E exp(D(G(z))), D held fixed, is that of the likelihood. At the equilibrium its value is −1.
    """

    def generator(self, score: Tensor) -> Tensor:
        """−exp(D(G(z))): nearly all of its gradient comes from the best samples."""
        return -score.exp()


@register("objective", "least-squares")
class LeastSquares:
    """Regression to targets (LSGAN, Mao et al. 2017, arXiv:1611.04076, eq. 2), without its ½.

    With (a, b, c) = (−1, 1, 0) the generator descends Pearson's χ² of p_data + p_g from 2 p_g; with
    (0, 1, 1) the discriminator's loss is ½ at the equilibrium.

    Args:
        fake_target: a, the discriminator's target for generated examples.
        real_target: b, its target for real ones.
        generator_target: c, what the generator wants its examples to score.
    """

    output = "value"

    def __init__(
        self,
        *,
        fake_target: float = 0.0,
        real_target: float = 1.0,
        generator_target: float = 1.0,
    ) -> None:
        if fake_target == real_target:
            raise ConfigError(
                "model.objective",
                [f"fake_target and real_target are both {real_target:g}: nothing to tell apart"],
                "fake_target 0 and real_target 1",
            )
        if generator_target == fake_target:
            raise ConfigError(
                "model.objective",
                [f"generator_target and fake_target are both {fake_target:g}: it would look fake"],
                "generator_target 1 (or ½ with fake_target 0 and real_target 1)",
            )
        self.a, self.b, self.c = fake_target, real_target, generator_target

    def real(self, score: Tensor) -> Tensor:
        """(D(x) − b)², ``(N,)`` → ``(N,)``."""
        return (score - self.b).square()

    def fake(self, score: Tensor) -> Tensor:
        """(D(G(z)) − a)², ``(N,)`` → ``(N,)``."""
        return (score - self.a).square()

    def generator(self, score: Tensor) -> Tensor:
        """(D(G(z)) − c)², ``(N,)`` → ``(N,)``."""
        return (score - self.c).square()


@register("objective", "hinge")
class Hinge:
    """Margins of a linear classifier (Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, eq. 16).

    At the equilibrium the discriminator's loss is 2.
    """

    output = "value"

    def real(self, score: Tensor) -> Tensor:
        """max(0, 1 − D(x)), ``(N,)`` → ``(N,)``."""
        return relu(1.0 - score)

    def fake(self, score: Tensor) -> Tensor:
        """max(0, 1 + D(G(z))), ``(N,)`` → ``(N,)``."""
        return relu(1.0 + score)

    def generator(self, score: Tensor) -> Tensor:
        """−D(G(z)), ``(N,)`` → ``(N,)``."""
        return -score


@register("objective", "energy-margin")
class EnergyMargin:
    """Energies pushed up to a margin (EBGAN, Zhao et al. 2017, arXiv:1609.03126, eq. 1 and 2).

    The score is an energy ≥ 0, low on data, such as a reconstruction error.

    Args:
        margin: m; generated examples of a higher energy are left alone.
    """

    output = "energy"

    def __init__(self, *, margin: Annotated[float, Field(gt=0)] = 1.0) -> None:
        self.margin = margin

    def real(self, score: Tensor) -> Tensor:
        """D(x), ``(N,)`` → ``(N,)``."""
        return score

    def fake(self, score: Tensor) -> Tensor:
        """max(0, m − D(G(z))), ``(N,)`` → ``(N,)``."""
        return relu(self.margin - score)

    def generator(self, score: Tensor) -> Tensor:
        """D(G(z)), ``(N,)`` → ``(N,)``."""
        return score


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
