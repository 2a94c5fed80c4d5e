"""The MNIST networks of Improved GAN (Salimans et al. 2016, arXiv:1606.03498, section 5.1).

The classifier is held in check by noise on every layer and by weights of fixed length; the
generator matches its features by batch norm and softplus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genctl.data.ranges import from_unit, to_unit
from genctl.networks.layers.batch_norm import BatchNorm1d
from genctl.networks.layers.noise import GaussianNoise, drawing_layers, use_stream
from genctl.randomness import RandomStream
from genctl.registry import register

Size = Annotated[int, Field(ge=1)]
Noise = Annotated[float, Field(ge=0)]


class WeightNormLinear(nn.Module):
    """y = g · x·v / ‖v‖ + b (Salimans & Kingma 2016, arXiv:1602.07868, eq. 2).

    Args:
        inputs: numbers in.
        outputs: numbers out.
        learn_scale: whether g is trained, or stays as ``standardise`` left it.
    """

    scale: Tensor

    def __init__(self, inputs: int, outputs: int, learn_scale: bool = False) -> None:
        super().__init__()
        self.direction = nn.Parameter(0.1 * torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if learn_scale:
            self.scale = nn.Parameter(torch.ones(outputs))
        else:
            self.register_buffer("scale", torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs)`` → ``(N, outputs)``."""
        weight = torch._weight_norm(self.direction, self.scale[:, None], 0)  # one pass, fused
        return F.linear(x, weight, self.bias)

    @torch.no_grad()
    def standardise(self, x: Tensor) -> Tensor:
        """Set g and b so that every output of this batch has mean 0 and variance 1 (eq. 5, 6)."""
        y = self.forward(x)
        mean, std = y.mean(0), y.std(0, correction=0).clamp_min(1e-6)
        self.scale.div_(std)
        self.bias.copy_((self.bias - mean) / std)
        return self.forward(x)


@register("classifier", "noisy-mlp")
class NoisyMLPClassifier(nn.Module):
    """Fully connected ReLU layers with weight norm, and Gaussian noise before each of them.

    The layers have ``width``, a half and a quarter of it, and go on so: 1000, 500, 250, 250, 250 in
    the paper.

    Args:
        shape: ``(C, H, W)`` in [−1, 1], which the first layer sees in [0, 1], or ``(D,)``.
        classes: number of logits.
        width: units of the first layer.
        depth: hidden layers.
        input_noise: standard deviation of the noise on the input, in units of [0, 1].
        noise: standard deviation of the noise on every hidden layer.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        *,
        width: Size = 1000,
        depth: Size = 5,
        input_noise: Noise = 0.3,
        noise: Noise = 0.5,
    ) -> None:
        super().__init__()
        sizes = [math.prod(shape), *[max(1, width >> min(i, 2)) for i in range(depth)]]
        self.pictures = len(shape) == 3
        self.hidden = nn.ModuleList(WeightNormLinear(*pair) for pair in pairwise(sizes))
        self.logits = WeightNormLinear(sizes[-1], classes, learn_scale=True)
        self.noise = nn.ModuleList(GaussianNoise(std) for std in (input_noise, *[noise] * depth))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, *shape)`` → features ``(N, F)``, without the noise on them, logits ``(N, K)``."""
        return self._through(x, WeightNormLinear.forward)

    def initialise(self, x: Tensor, rng: RandomStream) -> None:
        """Data-dependent start: ``(N, *shape)`` comes out of every layer with variance 1."""
        use_stream(drawing_layers(self), rng)
        self._through(x, WeightNormLinear.standardise)

    def _through(
        self, x: Tensor, pass_layer: Callable[[WeightNormLinear, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        h = (to_unit(x) if self.pictures else x).flatten(1)
        for layer, noise in zip(self.hidden, self.noise, strict=False):
            assert isinstance(layer, WeightNormLinear)
            h = F.relu(pass_layer(layer, noise(h)))
        return h, pass_layer(self.logits, self.noise[-1](h))


@register("generator", "softplus-mlp")
class SoftplusMLPGenerator(nn.Module):
    """Fully connected softplus layers with batch norm, weight norm at the end; images in [−1, 1].

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)`` or ``(D,)``.
        width: units of a hidden layer.
        depth: hidden layers.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, ...], *, width: Size = 500, depth: Size = 2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([latent_dim, *[width] * depth]):
            layers += [nn.Linear(inputs, outputs, bias=False), BatchNorm1d(outputs), nn.Softplus()]
        # Its rows keep their length, or the first steps would drive every pixel to black or white.
        layers += [WeightNormLinear(width, math.prod(shape), learn_scale=True)]
        self.layers = nn.Sequential(*layers)
        self.shape = shape

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, *shape)``."""
        out: Tensor = self.layers(z).unflatten(1, self.shape)
        return from_unit(out.sigmoid()) if len(self.shape) == 3 else out
