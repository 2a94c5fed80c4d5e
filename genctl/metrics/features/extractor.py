"""What a feature extractor is, and how images are streamed through one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genctl.errors import DataError
from genctl.metrics.inception_score import log_softmax
from genctl.metrics.measure import Array, Features
from genctl.metrics.rows import Rows, in_blocks

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Number formats of a feature network. Features of different formats are never compared."""


def precision_warning(precision: str) -> str:
    """What must be said of features in a number format; empty for float32."""
    if precision == "fp32":
        return ""
    return f"features in {precision}: compare these numbers only with others made in {precision}"


class Extractor(Protocol):
    """Turns pictures into features.

    Attributes:
        name: whose features these are, for the report.
        standard: true only for the standard Inception network, the one that `fid` means.
        classes: whether it also gives logits.
        warning: what must be said of the numbers made with it, if anything.
        protocol: everything a reader needs to make the same numbers again. Its ``extractor_hash``,
            ``range``, ``resize`` and ``precision`` are the identity of the features: whoever keeps
            features or their statistics must keep these with them and compare no others.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def standard(self) -> bool: ...  # noqa: D102
    @property
    def classes(self) -> bool: ...  # noqa: D102
    @property
    def warning(self) -> str: ...  # noqa: D102
    @property
    def protocol(self) -> dict[str, Any]: ...  # noqa: D102

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Uint8 ``(N, C, H, W)`` → features ``(N, D)``, logits ``(N, K)`` if it has classes."""


def collect(
    extractor: Extractor, batches: Iterable[Tensor], side: str, *, classes: bool = True
) -> Features:
    """Stream uint8 batches through an extractor; only the features are kept, not in memory.

    Args:
        extractor: whose features.
        batches: the examples.
        side: their name.
        classes: keep the class probabilities, too, where there are any.

    Raises:
        DataError: no picture at all, or features that are not finite.
    """
    values, log_probabilities = Rows(), Rows()
    with torch.inference_mode():
        for images in batches:
            found, scores = extractor(images)
            values.append(found.float().cpu().numpy())
            if scores is not None and classes:
                log_probabilities.append(log_softmax(scores.float().cpu().numpy()))
    if not values:
        raise DataError(side, "holds no example to take features of", "check the path and -n")
    features = values.whole()
    require_finite(features, f"{side}: {extractor.name} features")
    if not log_probabilities:
        return Features(features)
    joined = log_probabilities.whole()
    require_finite(joined, f"{side}: {extractor.name} logits")
    return Features(features, joined)


def require_finite(values: Array, thing: str) -> None:
    """NaN would pass silently through some measures, so it is stopped here.

    Raises:
        DataError: with the number and the first of the bad rows.
    """
    good = [np.isfinite(block).all(axis=1) for block in in_blocks(values)]
    bad = np.flatnonzero(~np.concatenate(good))
    if bad.size:
        raise DataError(
            thing,
            f"{bad.size} of {len(values)} rows are not finite, the first is row {bad[0]}",
            "look at these examples; a run that makes NaN has diverged",
        )


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Grey repeated to colour, or colour to grey by ITU-R 601 luma, on uint8 ``(N, C, H, W)``.

    Raises:
        DataError: neither grey nor colour.
    """
    have = images.shape[1]
    if have == channels:
        return images
    if have == 1:
        return images.expand(-1, channels, -1, -1)
    if have == 3 and channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
        return (images.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)
    raise DataError(f"pictures of {have} channels", f"{channels} expected", "give grey or colour")


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Float ``(N, C, H, W)`` → ``(N, C, height, width)``: bilinear, antialiased when shrinking."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    return F.interpolate(
        images, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
