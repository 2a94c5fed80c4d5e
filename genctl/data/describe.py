"""What is in a data set, for people and for ``genctl data inspect``."""

from __future__ import annotations

from typing import Any

import torch

from genctl.data import cache
from genctl.data.dataset import TRIANGLES, Dataset


def describe(dataset: Dataset) -> dict[str, Any]:
    """The facts of a data set as plain values, for ``genctl data inspect``."""
    spec = dataset.spec
    known = {
        "kind": spec.kind,
        "source": dataset.source,
        "split": dataset.split,
        "examples": len(dataset),
        "splits": dict(dataset.counts),
        "shape": list(spec.shape),
        "channels": spec.shape[0] if spec.kind == "image" else None,
        "size": list(spec.shape[1:]) if spec.kind == "image" else None,
        "levels": spec.levels,
        "classes": spec.classes,
        "labels": _label_counts(dataset),
        "captions": None if dataset.captions is None else sum(map(bool, dataset.captions)),
        "broken": [{"name": name, "reason": reason} for name, reason in dataset.broken],
        "warnings": list(dataset.warnings),
        "bytes": dataset.examples.numel() * dataset.examples.element_size(),
        "binarise": dataset.binarise,
        "crop": dataset.crop,
        "fingerprint": dataset.fingerprint,
        "cache": str(cache.cache_folder()),
    }
    if dataset.toy is not None:
        known["toy"] = {"name": dataset.toy.name, **dataset.toy.settings}
        known["entropy_nats"] = dataset.toy.entropy()
    if dataset.manifold is not None:
        known["toy"] = {"name": TRIANGLES, **dataset.manifold.settings}
    return known


def _label_counts(dataset: Dataset) -> dict[str, int] | None:
    if dataset.labels is None:
        return None
    names = dataset.spec.class_names or tuple(str(k) for k in range(dataset.spec.classes))
    counts = torch.bincount(dataset.labels + 1, minlength=len(names) + 1).tolist()
    found = dict(zip(names, counts[1:], strict=True))
    return {**found, "unlabelled": counts[0]} if counts[0] else found
