"""Virtual batch normalisation (Salimans et al. 2016, arXiv:1606.03498, section 3.4).

Each example is normalised by the statistics of a fixed reference batch to which it is added, so
that its neighbours in the batch do not matter. The reference batch passes through the layers
beside every batch, because its activations change with the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from genctl.errors import ConfigError

REFERENCES = 64
"""Examples of a reference batch, as in the paper's code."""


class VirtualBatchNorm(nn.Module):
    """Normalises ``(REFERENCES + N, C, …)``: the reference by itself, others with one more example.

    Statistics are taken over examples and positions. With a share s = 1 / (REFERENCES + 1) of the
    example x, and r the reference: μ = s μₓ + (1−s) μᵣ, σ² = s σ²ₓ + (1−s) σ²ᵣ + s(1−s)(μₓ−μᵣ)².

    Args:
        channels: C.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape and dtype."""
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = values.flatten(2) if x.dim() > 2 else values.unsqueeze(2)
        reference, others = wide[:REFERENCES], wide[REFERENCES:]
        mean, variance = _moments(reference, (0, 2))
        own_mean, own_variance = _moments(others, (2,))
        share = 1.0 / (REFERENCES + 1)
        apart = (own_mean - mean).square()
        joint_mean = torch.lerp(mean, own_mean, share)
        joint_variance = torch.lerp(variance, own_variance, share) + share * (1.0 - share) * apart
        rows = (REFERENCES, -1, -1)
        means = torch.cat([mean.expand(rows), joint_mean])
        variances = torch.cat([variance.expand(rows), joint_variance])
        out = (wide - means) * torch.rsqrt(variances + self.eps)
        out = out * self.weight[:, None] + self.bias[:, None]
        return out.view_as(values).to(x.dtype)


def _moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over some axes of ``(N, C, positions)``, which are kept."""
    return x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)


class BesideReference(nn.Sequential):
    """A sequence whose layers see a fixed reference batch in front of every batch.

    Args:
        layers: in order; none may couple examples but ``VirtualBatchNorm``.
        shape: of one example of the input.

    Attributes:
        chosen: whether this process has chosen the reference, random numbers until then.
    """

    reference: Tensor
    chosen = False

    def __init__(self, *layers: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__(*layers)
        self.register_buffer("reference", torch.randn(REFERENCES, *shape))

    def forward(self, input: Tensor) -> Tensor:
        """``(N, *shape)`` → the last layer's ``(N, …)``."""
        both: Tensor = super().forward(torch.cat([self.reference.to(input.dtype), input]))
        return both[REFERENCES:]


def choose_references(network: nn.Module, draw: Callable[[int], Tensor]) -> None:
    """Fix the reference batches of a network, once and for all.

    Args:
        network: whose references are to be chosen; one without any draws nothing.
        draw: gives n examples of the network's input.
    """
    for layer in network.modules():
        if isinstance(layer, BesideReference):
            layer.reference.copy_(draw(REFERENCES).view_as(layer.reference))
            layer.chosen = True


def require_references(model: nn.Module) -> None:
    """Insist that a model about to be trained has chosen all its reference batches.

    Raises:
        ConfigError: virtual batch norm in a model that has no place for it.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, BesideReference) and not layer.chosen:
            raise ConfigError(
                "norm",
                [f"virtual in {name}, and this model chooses no reference batch for it"],
                "norm: batch, layer or none there, or model.kind adversarial",
            )


def first_examples(batches: Iterator[Tensor], n: int) -> Tensor:
    """The first n rows of the coming batches, ``(n, *shape)``."""
    found: list[Tensor] = []
    while sum(map(len, found)) < n:
        found.append(next(batches))
    return torch.cat(found)[:n]
