"""K classes and "generated" from K logits (Salimans et al. 2016, arXiv:1606.03498, section 5).

A softmax over K + 1 logits does not change when a number is subtracted from all of them, so the
last, of the class "generated", is fixed at 0. With Z = Σ exp(logits) a real example has probability
D = Z / (Z + 1): log Z is the logit of being real, which any objective of logits can take.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def real_logit(logits: Tensor) -> Tensor:
    """Log Z, ``(N, K)`` → ``(N,)``, with log D = log Z − softplus(log Z)."""
    return logits.logsumexp(1)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """−log p(y | x, y ≤ K), ``(N, K)`` and ``(N,)`` → ``(N,)`` nats."""
    return F.cross_entropy(logits, labels, reduction="none")
