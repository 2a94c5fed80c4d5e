"""Convolutions that see only what comes before, in raster order and over the colour channels."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MaskKind = Literal["A", "B"]


def group_bounds(features: int, groups: int) -> list[int]:
    """Where each colour channel's share of the features starts, and the end of the last.

    Features are dealt to the channels in order and as evenly as their number allows, so every layer
    agrees which channel a feature belongs to.
    """
    return [-(-group * features // groups) for group in range(groups + 1)]


def groups_of(features: int, groups: int) -> Tensor:
    """The colour channel of each feature, ``(features,)`` int64, ascending."""
    bounds = group_bounds(features, groups)
    counts = torch.tensor([b - a for a, b in pairwise(bounds)])
    return torch.repeat_interleave(torch.arange(groups), counts, output_size=features)


class MaskedConv2d(nn.Module):
    """A square convolution that hides the pixels to come (arXiv:1601.06759, section 3.4, figure 2).

    Rows above are seen whole, the own row up to the left neighbour. At the centre a feature of
    channel c sees features of channels before c (mask A, for the layer that reads the image) or up
    to and including c (mask B, for all others), where the order is red, green, blue.

    Args:
        inputs: features in.
        outputs: features out.
        kernel: odd edge of the kernel in pixels.
        mask: ``A`` hides the own channel at the centre, ``B`` shows it.
        groups: colour channels of the image.
    """

    mask: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, mask: MaskKind, groups: int = 1
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a masked convolution needs an odd kernel, found {kernel}")
        self.inputs, self.outputs, self.kernel = inputs, outputs, kernel
        self.kind: MaskKind = mask
        self.groups = groups
        middle = kernel // 2
        seen = torch.zeros(outputs, inputs, kernel, kernel)
        seen[:, :, :middle] = 1
        seen[:, :, middle, :middle] = 1
        to, of = groups_of(outputs, groups)[:, None], groups_of(inputs, groups)[None, :]
        seen[:, :, middle, middle] = (of < to if mask == "A" else of <= to).float()
        self.register_buffer("mask", seen, persistent=False)
        # He initialisation by the taps that are really there, so that depth keeps the scale.
        taps = seen.sum(dim=(1, 2, 3)).clamp_min(1).view(-1, 1, 1, 1)
        self.weight = nn.Parameter(torch.randn_like(seen) * (2 / taps).sqrt() * seen)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def masked_weight(self) -> Tensor:
        """The kernel with the hidden taps at zero, ``(outputs, inputs, kernel, kernel)``."""
        # A 1 x 1 layer of a grey image hides nothing.
        whole = self.kernel == 1 and self.groups == 1 and self.kind == "B"
        return self.weight if whole else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` → ``(N, outputs, H, W)``."""
        return F.conv2d(x, self.masked_weight(), self.bias, padding=self.kernel // 2)
