"""A classifier of grey pictures that looks at each colour channel by itself: stacked digits.

To turn them grey first, as colour pictures are for a grey classifier, would merge three digits.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genctl.errors import DataError
from genctl.metrics.features.classifier import ClassifierFeatures


class PerChannel:
    """Features of the three channels side by side, and one class for every triple of labels.

    Args:
        inner: a classifier of one channel, with K classes.
    """

    standard = False
    classes = True

    def __init__(self, inner: ClassifierFeatures) -> None:
        self.inner = inner
        self.name = inner.name
        self.warning = inner.warning
        self.protocol: dict[str, Any] = {
            **inner.protocol,
            "extractor": f"{inner.protocol['extractor']}, of each colour channel by itself",
            "channels": 3,
            "classes": inner.protocol["classes"] ** 3,
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(N, 3, H, W)`` → features ``(N, 3 F)``, logits ``(N, K³)`` of K² r + K g + b.

        Sums of the channels' logits: their softmax is the product of the three.

        Raises:
            DataError: not three channels.
        """
        n, channels = images.shape[:2]
        if channels != 3:
            raise DataError(
                f"pictures of {channels} channels", "stacked ones have 3", "give colour pictures"
            )
        features, logits = self.inner(images.flatten(0, 1)[:, None])
        red, green, blue = logits.float().reshape(n, 3, -1).unbind(1)
        joint = red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]
        return features.reshape(n, -1), joint.flatten(1)
