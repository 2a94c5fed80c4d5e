"""Variational bounds on log p(x), from log-probabilities to one number per example."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def negative_elbo(log_likelihood: Tensor, kl: Tensor, kl_weight: float = 1.0) -> Tensor:
    """−log p(x|z) + β KL(q(z|x) ‖ p(z)), to be minimised; all ``(N,)`` nats.

    β = 1 is the bound of arXiv:1312.6114, eq. 3; other weights are the β-VAE.
    """
    return kl_weight * kl - log_likelihood


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Log (1/k) Σ_j w_j with w_j = p(x, z_j) / q(z_j|x): a lower bound on log p(x).

    Tighter with every sample and equal to the ELBO at k = 1 (arXiv:1509.00519, eq. 8).

    Args:
        log_weights: ``(k, N)`` nats, one row per draw from q.

    Returns:
        ``(N,)`` nats.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(log_weights.shape[0])
