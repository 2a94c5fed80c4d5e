"""Pixels themselves as features: no network, no weights, always to be had.

uint8 → [0, 1], both sides at the smaller size of the two, antialiased to at most 32, flattened.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genctl.metrics.features.extractor import resized, with_channels

LARGEST = 32


class Pixels:
    """Flattened pixels in [0, 1].

    Args:
        shapes: ``(C, H, W)`` of each side: both are brought to the smaller size, and to the more
            channels.
        device: where to compute.
    """

    name = "pixels"
    standard = False
    warning = ""
    classes = False

    def __init__(self, shapes: list[tuple[int, ...]], device: str = "cpu") -> None:
        self.channels = max(shape[0] for shape in shapes)
        self.height = min(LARGEST, *(shape[1] for shape in shapes))
        self.width = min(LARGEST, *(shape[2] for shape in shapes))
        self.device = device
        self.protocol: dict[str, Any] = {
            "extractor": "pixels",
            "extractor_hash": None,
            "range": "uint8 to [0, 1]",
            "resize": f"bilinear, antialiased, to {self.height}x{self.width}",
            "channels": self.channels,
            "precision": "fp32",
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        """uint8 ``(N, C, H, W)`` → ``(N, channels · height · width)``."""
        unit = with_channels(images.to(self.device), self.channels).float() / 255.0
        return resized(unit, self.height, self.width).flatten(1), None
