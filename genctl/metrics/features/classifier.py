"""Features of a classifier that the user trained, and its classes: for `fd` and `is`."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from genctl.data.ranges import from_bytes
from genctl.float32 import full_float32
from genctl.metrics.features.extractor import (
    DTYPES,
    precision_warning,
    resized,
    with_channels,
)
from genctl.types import DataSpec


class ClassifierFeatures:
    """A run's classifier at its own size and channels.

    Args:
        model: has ``features_and_logits``; in eval mode, on ``device``.
        spec: the data it was trained on, which fixes size and channels.
        name: the run, for the report.
        step: of its checkpoint.
        device: where to compute.
        precision: number format of its convolutions and products, ``fp32`` or ``bf16``.
    """

    standard = False
    classes = True

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        name: str,
        step: int,
        device: torch.device | str,
        precision: str = "fp32",
    ) -> None:
        self.model: Any = model
        self.channels, self.height, self.width = spec.shape
        self.name = name
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.class_names = spec.class_names
        self.warning = precision_warning(precision)
        self.protocol: dict[str, Any] = {
            "extractor": f"classifier run {name}, step {step}, layer before the last",
            "extractor_hash": hash_of(model),
            "range": "uint8 to [-1, 1]",
            "resize": f"bilinear, antialiased, to {self.height}x{self.width} uint8",
            "channels": self.channels,
            "classes": spec.classes,
            "precision": precision,
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 ``(N, C, H, W)`` → features ``(N, F)``, logits ``(N, classes)``."""
        images = with_channels(images.to(self.device), self.channels)
        if tuple(images.shape[-2:]) != (self.height, self.width):
            scaled = resized(images.float(), self.height, self.width)
            images = scaled.round().clamp(0, 255).to(torch.uint8)
        x = from_bytes(images)
        half = self.dtype != torch.float32
        with full_float32(), torch.autocast(self.device.type, self.dtype, enabled=half):
            features, logits = self.model.features_and_logits(x)
        return features, logits


def hash_of(model: nn.Module) -> str:
    """SHA-256 of the weights, names included, independent of file formats."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
