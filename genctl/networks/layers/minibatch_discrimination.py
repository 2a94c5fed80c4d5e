"""Minibatch discrimination (Salimans et al. 2016, arXiv:1606.03498, section 3.2)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.across_ranks import rows_of_all_ranks

Kernels = Annotated[int, Field(ge=0)]
KernelDim = Annotated[int, Field(ge=1)]


class MinibatchDiscrimination(nn.Module):
    """How near each example is to the others of its batch, so that equal ones give G away.

    With features f(xᵢ) in A dimensions and a tensor T of A×B×C, Mᵢ = f(xᵢ)T in B×C, and
    o(xᵢ)_b = Σⱼ exp(−‖Mᵢ,b − Mⱼ,b‖₁) over the whole batch of all ranks, xᵢ itself included.

    Args:
        features: A.
        kernels: B.
        dim: C.
    """

    couples_examples = "minibatch discrimination"

    def __init__(self, features: int, kernels: int, dim: int) -> None:
        super().__init__()
        self.kernels, self.dim = kernels, dim
        self.tensor = nn.Linear(features, kernels * dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, A)`` → o, ``(N, B)``, between 1 and the size of the batch."""
        rows = self.tensor(features)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        # The two axes of examples are the last, which is the fastest on a CPU: (B, C, N, all N).
        own, others = (
            x.unflatten(1, (self.kernels, self.dim)).permute(1, 2, 0).contiguous()
            for x in (rows, rows_of_all_ranks(rows))
        )
        distance = (own[..., :, None] - others[..., None, :]).abs().sum(1)
        return torch.exp(-distance).sum(2).t()


class ClosenessScore(nn.Sequential):
    """What minibatch discrimination adds to a score that is linear in the features.

    The paper appends o(x) to the features. Where the next layer is the linear score, that is the
    score of the features plus a linear map of o(x). Neither of its weights is ever normalised:
    o(x) counts neighbours, so its slope would have no useful bound all the same.

    Args:
        features: A.
        kernels: B.
        dim: C.
    """

    def __init__(self, features: int, kernels: int, dim: int) -> None:
        score = nn.Linear(kernels, 1, bias=False)
        # o counts a batch of neighbours at first, and would drown the features.
        nn.init.normal_(score.weight, 0.0, 1e-3)
        super().__init__(MinibatchDiscrimination(features, kernels, dim), score)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, A)`` → ``(N,)``, float32."""
        out: Tensor = super().forward(input)
        return out.squeeze(1).float()
