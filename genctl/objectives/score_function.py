"""The score-function gradient, REINFORCE (Williams 1992), and baselines that leave it unbiased."""

from __future__ import annotations

from torch import Tensor


def score_function(log_prob: Tensor, cost: Tensor, baseline: Tensor) -> Tensor:
    """A number whose value is the cost and whose gradient is (cost − b) ∇ log p (Williams 1992).

    In expectation over the draws that is ∇ E[cost], if b does not depend on the draw beside it.

    Args:
        log_prob: log p of the draws, differentiable in the parameters.
        cost: what the draws cost, of the same shape; it is not differentiated.
        baseline: b, broadcasts against the cost; it is not differentiated.
    """
    cost = cost.detach()
    return cost + (cost - baseline.detach()) * (log_prob - log_prob.detach())


def leave_one_out(cost: Tensor) -> Tensor:
    """For each of M draws the mean cost of the others (Mnih & Rezende 2016, arXiv:1602.06725).

    Args:
        cost: ``(M, N)``, M ≥ 2 independent draws for each of N.
    """
    return (cost.sum(0, keepdim=True) - cost) / (len(cost) - 1)
