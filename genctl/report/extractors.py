"""Choosing whose features to compare in: ``--features inception|RUN|FILE|pixels``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from genctl.engine.device import pick_device
from genctl.engine.run import open_run
from genctl.errors import CapabilityError, DataError, UsageError
from genctl.metrics.features.classifier import ClassifierFeatures
from genctl.metrics.features.extractor import Extractor
from genctl.metrics.features.inception import Inception
from genctl.metrics.features.per_channel import PerChannel
from genctl.metrics.features.pixels import Pixels
from genctl.report.sides import is_run

WEIGHT_FILES = {".pth", ".pt", ".safetensors"}


class Points:
    """Toy points are their own features."""

    name = "points"
    standard = False
    warning = ""
    classes = False

    def __init__(self) -> None:
        self.protocol: dict[str, Any] = {
            "extractor": "the points themselves",
            "extractor_hash": None,
            "resize": None,
            "precision": "fp32",
        }

    def __call__(self, images: Tensor) -> tuple[Tensor, None]:
        """``(N, D)`` → ``(N, D)``."""
        return images, None


def choose(
    features: str | None,
    shapes: Sequence[tuple[int, ...]],
    *,
    inception_weights: str | Path | None,
    device: str,
    precision: str = "fp32",
    stacked: bool = False,
) -> Extractor:
    """The extractor that was asked for; by default Inception, or the points themselves.

    Args:
        features: ``inception``, ``pixels``, a classifier run, or a file of Inception-shaped weights
            that are not the standard ones; None for the default.
        shapes: one example of each side.
        inception_weights: file with the standard network's weights.
        device: auto, cpu, cuda or mps.
        precision: number format of a feature network; pixels and points have none.
        stacked: the pictures are three stacked ones, which a grey classifier takes one by one.

    Raises:
        CapabilityError: no weights, or a run that has no features.
        DataError: points against pictures.
        UsageError: none of these names.
    """
    kinds = {len(shape) for shape in shapes}
    if len(kinds) > 1:
        raise DataError(
            "the two sides", "one holds points, the other pictures", "compare like with like"
        )
    if kinds == {1}:
        if features not in (None, "points", "pixels"):
            raise UsageError(
                f"--features {features}", "points are compared as they are", "leave it out"
            )
        return Points()
    if features in (None, "inception"):
        weights = None if inception_weights is None else Path(inception_weights)
        return Inception(weights, pick_device(device), precision=precision)
    assert features is not None
    if features == "pixels":
        return Pixels(list(shapes), str(pick_device(device)))
    if is_run(features):
        found = _classifier(features, device, precision)
        return PerChannel(found) if stacked and found.channels == 1 else found
    path = Path(os.path.expanduser(features))
    if path.suffix.lower() in WEIGHT_FILES and path.is_file():
        return Inception(path, pick_device(device), standard=False, precision=precision)
    raise UsageError(
        f"--features {features}",
        "neither a run nor a file of weights",
        "inception, pixels, the path of a classifier run, or FILE.pth of Inception-shaped weights",
    )


def doubts(
    extractor: Extractor, shapes: Sequence[tuple[int, ...]], precision: str | None
) -> list[str]:
    """What must be said of examples that are compared without a network.

    Args:
        extractor: whose features.
        shapes: one example of each side.
        precision: number format that was asked for, if any.
    """
    if not isinstance(extractor, Pixels | Points):
        return []
    found = []
    said = extractor.protocol["precision"]
    if precision not in (None, said):
        found.append(f"--precision {precision}: {extractor.name} pass no network, they are {said}")
    apart = list(dict.fromkeys(shapes))
    if isinstance(extractor, Pixels) and len(apart) > 1:
        kinds = " and of ".join(str(tuple(shape)) for shape in apart)
        made = f"{extractor.height}x{extractor.width} in {extractor.channels} channels"
        found.append(
            f"the sides hold pictures of {kinds}, all brought to {made}: part of the distance is "
            "that of size and colour"
        )
    return found


def _classifier(address: str, device: str, precision: str) -> ClassifierFeatures:
    run = open_run(address, device)
    run.require("features")
    run.require("classify")
    if run.spec.kind != "image":
        raise CapabilityError(address, "its classifier is not one of pictures", "--features pixels")
    name = Path(address).name
    return ClassifierFeatures(run.model, run.spec, name, run.step, run.device, precision)
