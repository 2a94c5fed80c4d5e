"""How much an example says of the code it was made from (Barber & Agakov 2003)."""

from __future__ import annotations

from torch import Tensor


def information_bound(log_posterior: Tensor, entropy: float) -> Tensor:
    """L_I = E log Q(c | x) + H(c) ≤ I(c; x), of the batch (InfoGAN, arXiv:1606.03657, eq. 5).

    It is the mutual information where Q is the posterior; the gap is E KL(P(c|x) ‖ Q(c|x)).

    Args:
        log_posterior: ``(N,)`` log Q(c | x) of the codes that x was made from, in nats.
        entropy: H(c), fixed by how codes are drawn.

    Returns:
        A scalar in nats.
    """
    return log_posterior.mean() + entropy
