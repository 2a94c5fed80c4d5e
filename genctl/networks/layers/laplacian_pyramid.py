"""Laplacian pyramids (Burt & Adelson 1983), as LAPGAN uses them (arXiv:1506.05751, section 2.2).

A pyramid is a list from coarse to fine. The Gaussian pyramid holds the image at every size, each
I = d(finer); the Laplacian one holds the coarsest image and, for every finer size, the coefficients
h = I − u(coarser) that the coarser image lacks, so that I = u(coarser) + h gives it back.

Sizes are free: 7 → 14 → 28 as well as the paper's 8 → 14 → 28. Both d and u keep constant images
as they are and are linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int, int]


def downsample(x: Tensor, size: Size) -> Tensor:
    """d: blur with a triangle as wide as the step, then decimate; halving weighs (1, 3, 3, 1)/8.

    Args:
        x: ``(N, C, H, W)``.
        size: the smaller height and width.
    """
    return interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def upsample(x: Tensor, size: Size) -> Tensor:
    """u: smooth and expand, bilinear, ``(N, C, h, w)`` → ``(N, C, *size)``."""
    return interpolate(x, size, mode="bilinear", align_corners=False)


def gaussian_pyramid(x: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """The image at every size, ``(N, C, *size)``, coarse to fine (paper's 𝒢, I_K … I_0).

    Args:
        x: ``(N, C, *sizes[-1])``.
        sizes: heights and widths, coarse to fine.
    """
    images = [x]
    for size in reversed(sizes[:-1]):
        images.append(downsample(images[-1], size))
    return images[::-1]


def laplacian_pyramid(x: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """The coarsest image, then the coefficients h of each finer size (eq. 3)."""
    images = gaussian_pyramid(x, sizes)
    return [images[0], *(fine - _upsampled(coarse, fine) for coarse, fine in pairwise(images))]


def collapse(coefficients: Sequence[Tensor]) -> Tensor:
    """The image of a Laplacian pyramid: I_k = u(I_{k+1}) + h_k, from coarse to fine (eq. 4)."""
    image = coefficients[0]
    for h in coefficients[1:]:
        image = _upsampled(image, h) + h
    return image


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return upsample(x, (like.shape[2], like.shape[3]))
