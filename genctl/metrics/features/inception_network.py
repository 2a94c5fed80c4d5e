"""The layers of the standard Inception network, arranged for speed.

The values are torch-fidelity's up to rounding. What differs is the order of linear things: batch
norms are folded into the convolutions before them; a mean over neighbours is taken behind a 1×1
convolution, on fewer channels; the resize is a product with a matrix on each side. The channels of
a pixel lie together in memory, as convolutions read them fastest, and on a CPU the ReLU is taken
inside the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from genctl.metrics.features.lanes import in_lanes

SIZE = 299
CPU_PART = 8
"""Pictures at a time on a CPU, where more gain nothing: the wide first layers then give outputs so
large that the system hands out and clears fresh memory for each."""


class InceptionNetwork(nn.Module):
    """Uint8 ``(N, 3, H, W)`` → features ``(N, 2048)`` and logits without bias ``(N, 1008)``.

    Args:
        source: torch-fidelity's network with its weights. It is used up.
        dtype: number format of the convolutions. Resize, last mean and logits are computed in
            float32 at least, so bfloat16 sees the very pictures that float32 sees.
    """

    classes: Tensor

    def __init__(self, source: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        layers: Any = source.double()  # folded in float64, rounded once
        self.dtype = dtype
        self.wide = torch.promote_types(dtype, torch.float32)
        self.trunk = nn.Sequential(
            *_chain(layers, "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
            nn.MaxPool2d(3, stride=2),
            *_chain(layers, "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
            nn.MaxPool2d(3, stride=2),
            *(_block_35(getattr(layers, f"Mixed_{name}")) for name in ("5b", "5c", "5d")),
            _shrink_to_17(layers.Mixed_6a),
            *(_block_17(getattr(layers, f"Mixed_{name}")) for name in ("6b", "6c", "6d", "6e")),
            _shrink_to_8(layers.Mixed_7a),
            _block_8(layers.Mixed_7b, _averaged(layers.Mixed_7b.branch_pool)),
            # TensorFlow's last block takes the maximum where the others take the mean.
            _block_8(
                layers.Mixed_7c,
                nn.Sequential(nn.MaxPool2d(3, 1, 1), *_chain(layers.Mixed_7c, "branch_pool")),
            ),
        ).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("classes", layers.fc.weight.detach().to(self.wide))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits, in float32 at least."""
        on_cpu = images.device.type == "cpu"
        features = in_lanes(self._features, images, CPU_PART) if on_cpu else self._features(images)
        return features, features @ self.classes.T

    def _features(self, images: Tensor) -> Tensor:
        x = (resized(images.to(self.wide)) - 128) / 128
        x = self.trunk(x.to(self.dtype, memory_format=torch.channels_last))
        return x.to(self.wide).mean((2, 3))


# --- the resize ----------------------------------------------------------------------------------
def resized(images: Tensor) -> Tensor:
    """Float ``(N, C, H, W)`` → ``(N, C, 299, 299)``, bilinear as in TensorFlow 1: no antialiasing.

    Corners are aligned at the top left only, unlike in any mode of ``interpolate``.
    """
    rows, columns = (interpolation(edge, images) for edge in images.shape[-2:])
    return rows @ images @ columns.T


def interpolation(length: int, like: Tensor) -> Tensor:
    """``(299, length)``: row i holds the weights of the points on either side of i·length/299."""
    # The step is rounded to float32 in TensorFlow; equal positions give equal pictures.
    step = torch.tensor(length / SIZE, dtype=torch.float32, device=like.device)
    position = torch.arange(SIZE, dtype=like.dtype, device=like.device) * step
    below = position.long()
    above = (below + 1).clamp_max(length - 1)
    share = (position - below).unsqueeze(1)
    matrix = torch.zeros(SIZE, length, dtype=like.dtype, device=like.device)
    # Behind the last point lies the last point again, so its two shares must add up.
    matrix.scatter_add_(1, below.unsqueeze(1), 1 - share)
    return matrix.scatter_add_(1, above.unsqueeze(1), share)


# --- the blocks ----------------------------------------------------------------------------------
class Convolution(nn.Module):
    """A convolution with its batch norm folded in, and the ReLU behind it if there is one.

    Args:
        block: torch-fidelity's convolution and batch norm.
        activation: ``relu`` or ``none``.
    """

    def __init__(self, block: Any, activation: str) -> None:
        super().__init__()
        self.folded = fuse_conv_bn_eval(block.conv, block.bn)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, K, H', W')``."""
        c = self.folded
        if x.device.type == "cpu" and has_fused_kernel(x.dtype):
            return _fused(x, c.weight, c.bias, c.padding, c.stride, self.activation)
        x = c(x)
        return x.relu_() if self.activation == "relu" else x


@cache
def has_fused_kernel(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's convolution with activation, and it computes what it should.

    It is no public operator, so it is tried on a small picture first. Measured on a CPU with AMX:
    up to 3 times sooner than convolution and ReLU in bfloat16, a tenth in float32.
    """
    picture = torch.linspace(-1, 1, 75, dtype=dtype).view(1, 3, 5, 5)
    weight = torch.linspace(-1, 1, 108, dtype=dtype).view(4, 3, 3, 3)
    bias = torch.linspace(-1, 1, 4, dtype=dtype)
    picture, weight = (x.to(memory_format=torch.channels_last) for x in (picture, weight))
    expected = {"none": F.conv2d(picture, weight, bias, stride=2, padding=1)}
    expected["relu"] = expected["none"].relu()
    try:
        return all(
            torch.allclose(
                _fused(picture, weight, bias, (1, 1), (2, 2), name), y, rtol=1e-2, atol=1e-2
            )
            for name, y in expected.items()
        )
    except (RuntimeError, AttributeError, TypeError):
        return False


def _fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
    activation: str,
) -> Tensor:
    found: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, list(padding), list(stride), [1, 1], 1, activation, [], ""
    )
    return found


class Branches(nn.ModuleList):
    """Modules that see the same input; their channels are put behind each other."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, sum of the branches' channels, H', W')``."""
        return torch.cat([branch(x) for branch in self], dim=1)


def _averaged(block: Any) -> nn.Sequential:
    """1×1 convolution, mean over the neighbours inside the picture, ReLU."""
    mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Sequential(Convolution(block, "none"), mean, nn.ReLU(inplace=True))


def _chain(block: Any, *names: str) -> nn.Sequential:
    return nn.Sequential(*(Convolution(getattr(block, name), "relu") for name in names))


def _block_35(block: Any) -> Branches:
    return Branches(
        [
            _chain(block, "branch1x1"),
            _chain(block, "branch5x5_1", "branch5x5_2"),
            _chain(block, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            _averaged(block.branch_pool),
        ]
    )


def _shrink_to_17(block: Any) -> Branches:
    return Branches(
        [
            _chain(block, "branch3x3"),
            _chain(block, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            nn.MaxPool2d(3, stride=2),
        ]
    )


def _block_17(block: Any) -> Branches:
    return Branches(
        [
            _chain(block, "branch1x1"),
            _chain(block, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            _chain(block, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
            _averaged(block.branch_pool),
        ]
    )


def _shrink_to_8(block: Any) -> Branches:
    return Branches(
        [
            _chain(block, "branch3x3_1", "branch3x3_2"),
            _chain(block, *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4))),
            nn.MaxPool2d(3, stride=2),
        ]
    )


def _block_8(block: Any, pooled: nn.Module) -> Branches:
    def fork(*names: str) -> Branches:
        return Branches([_chain(block, name) for name in names])

    return Branches(
        [
            _chain(block, "branch1x1"),
            nn.Sequential(*_chain(block, "branch3x3_1"), fork("branch3x3_2a", "branch3x3_2b")),
            nn.Sequential(
                *_chain(block, "branch3x3dbl_1", "branch3x3dbl_2"),
                fork("branch3x3dbl_3a", "branch3x3dbl_3b"),
            ),
            pooled,
        ]
    )
