"""``data cache --statistics``: the features of a real set, kept before anything is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genctl.data import cached_arrays
from genctl.data.cache import cache_folder, limit_bytes
from genctl.engine import distributed
from genctl.engine.run import open_run
from genctl.errors import GenctlError, UsageError
from genctl.metrics.features.extractor import Extractor
from genctl.metrics.measure import Features
from genctl.report import extractors, kept, sides
from genctl.report.evaluate import BATCH_SIZE, feature_precision
from genctl.report.sides import DEFAULT_N, Examples
from genctl.writing import replacing


def keep_statistics(
    spec: str,
    *,
    run: str | None = None,
    size: int | Literal["native"] = "native",
    features: str | None = None,
    inception_weights: str | Path | None = None,
    n: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    precision: str | None = None,
    download: bool = False,
    strict: bool = False,
    out: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compute the features of real examples into the data cache, where ``evaluate`` finds them.

    Args:
        spec: a data SPEC; a folder or archive is taken whole, as ``evaluate`` does.
        run: prepare the data as this run prepared its own, to be compared with it: size, crop,
            binarisation, labels left out, share held out.
        size: edge of the pictures where no run decides it; that of the runs they will be compared
            with.
        features: whose, as in ``evaluate``.
        inception_weights: file with the weights of the standard network.
        n: examples at most, chosen by seed; 10,000 or all.
        seed: chooses them.
        device: auto, cpu, cuda or mps.
        batch_size: examples at a time; features are found again by the same only.
        precision: number format of the feature network, ``fp32`` or ``bf16``.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.
        out: write them here instead, as an npz that ``evaluate`` takes for either side.
        report: told what is being done.

    Returns:
        ``out``, ``features`` (whose), ``n``, ``dimensions``, the ``key`` and ``bytes`` of the entry
        (or of the file), whether it was there before (``reused``), and its whole ``identity``.

    Raises:
        GenctlError: the cache has no room or cannot be written; or as ``evaluate`` does.
    """
    if sides.has_stored(spec, alone=True):
        raise UsageError(spec, "holds features already", "give it to `genctl evaluate` as it is")
    if out is not None and out.suffix.lower() != ".npz":
        raise UsageError(f"--out {out}", "features are kept as npz", f"--out {out.stem}.npz")
    wanted = feature_precision(precision)
    with distributed.processes(device):
        like = None if run is None else open_run(run, device)
        if like is not None:
            sides.require_native(size, str(like.path), f"is a run of {like.spec.shape}")
        dataset = sides.open_examples(spec, like, size=size, download=download, strict=strict)
        side = Examples(dataset, n or DEFAULT_N, seed, spec, "real", like)
        extractor = extractors.choose(
            features,
            [side.shape],
            inception_weights=inception_weights,
            device=device,
            precision=wanted or "fp32",
        )
        rows = batch_size or BATCH_SIZE
        facts = distributed.from_main(lambda: kept.identity(extractor, side, rows))
        key = kept.key_of(facts)
        there = out is None and distributed.from_main(
            lambda: cached_arrays.load(key, facts) is not None
        )
        what = f"{extractor.name} features of {len(side)} examples"
        say = report or (lambda text: None)
        if out is not None:  # either side may need class probabilities, which the cache has not
            say(what)
            found = kept.features_of(extractor, side, rows)
            distributed.on_main(lambda: _write(out, extractor, side, found))
        else:
            found = kept.real_features(extractor, side, rows, {}, what, say, keep=True)
        written = distributed.from_main(lambda: cached_arrays.load(key, facts) is not None)
    assert found.values is not None
    if out is None and not written:
        raise GenctlError(
            f"the data cache {cache_folder()}",
            f"has no room within its {limit_bytes() / 2**30:g} GiB, or cannot be written",
            "GENCTL_CACHE=FOLDER, GENCTL_CACHE_GIB=N, or -n N for fewer examples",
        )
    files = [out] if out is not None else list((cache_folder() / key).iterdir())
    return {
        "out": None if out is None else str(out),
        "features": extractor.name,
        "n": len(side),
        "dimensions": found.values.shape[1],
        "key": key,
        "bytes": sum(file.stat().st_size for file in files),
        "reused": there,
        "identity": facts,
    }


def _write(out: Path, extractor: Extractor, side: Examples, found: Features) -> None:
    """The features with everything that says whose they are and of what, whole or not at all."""
    told = {**extractor.protocol, "data": side.facts}
    arrays: dict[str, Any] = {"features": found.values}
    if found.log_probabilities is not None:
        arrays["probabilities"] = np.exp(found.log_probabilities)
    with replacing(out) as partial, partial.open("wb") as file:
        np.savez(
            file,
            **arrays,
            rows=side.rows.numpy(),
            precision=told["precision"],
            protocol=json.dumps(told),
        )
