"""The codes of InfoGAN (Chen et al. 2016, arXiv:1606.03657): what a latent should say plainly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genctl.distributions.categorical import Categorical
from genctl.distributions.gaussian import Gaussian
from genctl.randomness import RandomStream


class Codes:
    """Categorical codes, each class equally likely, and continuous ones, uniform on [−1, 1].

    Args:
        categorical: the number of classes of each categorical code.
        continuous: the number of continuous codes.
        learned_variance: Q's Gaussian for the continuous ones has a variance of its own for each
            example, and not 1.

    Attributes:
        size: numbers in a code: categorical ones are one-hot, continuous ones come behind.
        outputs: numbers that describe Q(c | x).
        entropy: H(c) in nats of the categorical and of the continuous codes.
    """

    def __init__(
        self, categorical: Sequence[int], continuous: int, learned_variance: bool = False
    ) -> None:
        self.categorical, self.continuous = list(categorical), continuous
        self.learned_variance = learned_variance
        self.size = sum(self.categorical) + continuous
        self.outputs = self.size + (continuous if learned_variance else 0)
        self.entropy = sum(math.log(k) for k in self.categorical), continuous * math.log(2.0)

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, size)``."""
        parts = [self.one_hot(rng.integers(n, high=k), k) for k in self.categorical]
        if self.continuous:
            parts.append(2.0 * rng.uniform(n, self.continuous) - 1.0)
        return torch.cat(parts, 1)

    def one_hot(self, chosen: Tensor, classes: int) -> Tensor:
        """``(N,)`` → ``(N, classes)``."""
        return (chosen[:, None] == torch.arange(classes, device=chosen.device)).float()

    def log_posterior(self, codes: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Log Q(c | x) of the categorical and of the continuous codes, ``(N,)`` nats each.

        Args:
            codes: ``(N, size)``.
            found: ``(N, outputs)`` that a network found in x.
        """
        sizes = [*self.categorical, self.continuous]
        parts = zip(codes.split(sizes, 1), found[:, : self.size].split(sizes, 1), strict=True)
        *categorical, (value, mean) = parts
        discrete = found.new_zeros(len(found))
        for one_hot, logits in categorical:
            discrete = discrete + Categorical(logits).log_prob(one_hot.argmax(1))
        log_std = found[:, self.size :] if self.learned_variance else found.new_zeros(())
        return discrete, Gaussian(mean, log_std).log_prob(value)

    def logits(self, found: Tensor) -> Tensor:
        """``(N, outputs)`` → ``(N, classes)`` of the first categorical code."""
        return found[:, : self.categorical[0]]

    def sweep(self, codes: Tensor, steps: int, reach: float) -> Tensor:
        """Vary one code after the other, the others as given.

        Args:
            codes: ``(rows, size)`` to start from.
            steps: values of a code: its classes in turn, or an even way from −reach to reach.
            reach: how far; beyond 1, the codes the generator knows, shows more of what changes.

        Returns:
            ``(codes, rows, steps, size)``. Row r of a continuous code shows class r of the first
            categorical one.
        """
        swept = []
        start = 0
        for classes in self.categorical:
            block = codes[:, None].repeat(1, steps, 1)
            turn = torch.arange(steps, device=codes.device) % classes
            block[..., start : start + classes] = self.one_hot(turn, classes)
            swept.append(block)
            start += classes
        way = torch.linspace(-reach, reach, steps, device=codes.device)
        for place in range(start, self.size):
            block = codes[:, None].repeat(1, steps, 1)
            if self.categorical:
                first = self.categorical[0]
                turn = torch.arange(len(codes), device=codes.device) % first
                block[..., :first] = self.one_hot(turn, first)[:, None]
            block[..., place] = way
            swept.append(block)
        return torch.stack(swept)
