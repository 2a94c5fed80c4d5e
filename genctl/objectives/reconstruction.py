"""Distances between a picture and its reconstruction, one number per example.

All are means over the variables of an example, so that a weight means the same at every size. They
are distances, not likelihoods: for nats see ``genctl.distributions.likelihoods``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from torch import Tensor
from torch.nn import functional as F

from genctl.registry import Part, register


class Reconstruction(Protocol):
    """A distance, and how the decoder's unbounded output becomes a picture under it."""

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """Distance of the decoder's output from ``x``, both ``(N, …)`` → ``(N,)``."""

    def picture(self, output: Tensor) -> Tensor:
        """Decoder's output → model range."""


ReconstructionPart = Annotated[Callable[[], Reconstruction], Part("reconstruction")]


def l1(output: Tensor, x: Tensor) -> Tensor:
    """Mean absolute difference, ``(N, …)`` → ``(N,)``, in units of the model range."""
    return (output - x).abs().flatten(1).mean(1)


def l2(output: Tensor, x: Tensor) -> Tensor:
    """Mean squared difference, ``(N, …)`` → ``(N,)``, in squared units of the model range."""
    return (output - x).square().flatten(1).mean(1)


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Mean cross-entropy of grey values ``x`` in [−1, 1] read as probabilities, ``(N,)`` nats."""
    target = (x + 1.0) * 0.5
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)


class _Linear:
    def picture(self, output: Tensor) -> Tensor:
        """The output as it is."""
        return output


@register("reconstruction", "l1")
class L1(_Linear):
    """Mean absolute difference."""

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """``(N, …)`` → ``(N,)``."""
        return l1(output, x)


@register("reconstruction", "l2")
class L2(_Linear):
    """Mean squared difference."""

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """``(N, …)`` → ``(N,)``."""
        return l2(output, x)


@register("reconstruction", "cross-entropy")
class CrossEntropy:
    """Cross-entropy of grey values read as probabilities (Vincent 2008, section 2.2)."""

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """``(N, …)`` logits and pictures → ``(N,)``."""
        return cross_entropy(output, x)

    def picture(self, output: Tensor) -> Tensor:
        """Logits → probabilities as grey values in [−1, 1]."""
        return 2.0 * output.sigmoid() - 1.0
