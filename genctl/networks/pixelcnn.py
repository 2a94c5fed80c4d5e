"""PixelCNN: an image's probability as a product over its pixels, by masked convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.data.ranges import to_levels
from genctl.errors import UsageError
from genctl.networks.layers.causal_cache import CausalScan
from genctl.networks.layers.masked_convolution import MaskedConv2d
from genctl.networks.layers.raster_scan import cached_scan
from genctl.randomness import RandomStream
from genctl.registry import register
from genctl.types import DataSpec, LikelihoodKind

Convolve = Callable[[MaskedConv2d, Tensor], Tensor]
"""How a layer meets its input: over the whole image, or at one pixel of a scan."""


def _whole(layer: MaskedConv2d, x: Tensor) -> Tensor:
    return layer(x)


class ResidualBlock(nn.Module):
    """1x1, masked 3x3, 1x1 with a residual (arXiv:1601.06759, figure 5, left)."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.reduce = MaskedConv2d(2 * width, width, 1, "B", groups)
        self.middle = MaskedConv2d(width, width, kernel, "B", groups)
        self.expand = MaskedConv2d(width, 2 * width, 1, "B", groups)
        # Blocks begin as the identity, so a deep stack starts out like a shallow one.
        nn.init.zeros_(self.expand.weight)

    def forward(self, x: Tensor, convolve: Convolve) -> Tensor:
        """Features to features of the same shape."""
        h = convolve(self.reduce, F.relu(x))
        h = convolve(self.middle, F.relu(h))
        return x + convolve(self.expand, F.relu(h))


@register("density", "pixelcnn")
class PixelCNN(nn.Module):
    """PixelCNN with a softmax over the levels of each channel (arXiv:1601.06759, table 1).

    A mask A convolution reads the image, residual blocks with mask B follow, and two 1x1 layers
    give logits for every pixel and channel in one pass. Binarised images have two levels.

    Args:
        spec: the data's facts; images only.
        width: features inside a block (the paper's h); the residual stream has twice as many.
        depth: residual blocks.
        kernel: edge of the blocks' masked convolutions.
        first_kernel: edge of the first convolution.
    """

    likelihood_kind: LikelihoodKind = "exact"

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: int = 32,
        depth: int = 8,
        kernel: int = 3,
        first_kernel: int = 7,
    ) -> None:
        super().__init__()
        if spec.kind != "image":
            raise UsageError(
                "density pixelcnn", f"needs images, found {spec.kind}", "use realnvp for points"
            )
        self.shape = spec.shape
        self.levels = spec.levels
        channels = spec.shape[0]
        self.first = MaskedConv2d(channels, 2 * width, first_kernel, "A", channels)
        self.blocks = nn.ModuleList(ResidualBlock(width, kernel, channels) for _ in range(depth))
        self.hidden = MaskedConv2d(2 * width, 2 * width, 1, "B", channels)
        self.last = MaskedConv2d(2 * width, channels * spec.levels, 1, "B", channels)
        # A nearly uniform start: the first loss is close to log(levels) for each variable.
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` in [−1, 1] → logits ``(N, C, levels, H, W)``."""
        # Channels last takes half the time on a CPU with bf16. It is asked for here because the
        # layout of a one-channel image is ambiguous, so the first layer would lose it.
        h = self.first(x).contiguous(memory_format=torch.channels_last)
        logits = self._after_first(h, _whole)
        n, _, height, width = x.shape
        return logits.reshape(n, x.shape[1], self.levels, height, width)

    def step(self, scan: CausalScan) -> Tensor:
        """Logits ``(N, levels)`` of the scan's current pixel and channel."""
        return self._after_first(scan.start(self.first), scan)

    def log_prob(self, x: Tensor, rng: RandomStream) -> Tensor:
        """Exact log-probability of images ``(N, C, H, W)`` in [−1, 1]: ``(N,)`` nats."""
        logits = self(x)
        # Never below float32: 784 rounded terms would add up.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = to_levels(x, self.levels)
        return -F.cross_entropy(logits.transpose(1, 2), target, reduction="none").flatten(1).sum(1)

    def sample(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, C, H, W)`` draws in [−1, 1]; row i consumes only row i of the noise."""
        nothing = torch.zeros(n, *self.shape, device=self.last.bias.device)
        return self.complete(nothing, nothing[:, :1], rng)

    def complete(self, x: Tensor, mask: Tensor, rng: RandomStream) -> Tensor:
        """Keeps x where mask ``(N, 1, H, W)`` is 1, draws the rest given the pixels before it.

        Draws follow raster order, so given pixels below a gap do not inform it.
        """
        n = x.shape[0]
        noise = rng.uniform(n, *self.shape).to(x.device, self.last.bias.dtype)
        return cached_scan(self, x, (mask > 0.5).expand_as(x), noise).to(x.dtype)

    def _after_first(self, h: Tensor, convolve: Convolve) -> Tensor:
        for block in self.blocks:
            h = block(h, convolve)
        h = convolve(self.hidden, F.relu(h))
        return convolve(self.last, F.relu(h))
