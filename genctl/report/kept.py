"""Features of a side, by all processes together; those of real examples are computed once and kept.

Mean, covariance and kernels are all taken of the features themselves, so they are what is
kept: in the process, and in the data cache, where the next ``evaluate`` finds them, and the scores
while training do. They are found only under the same identity: the bytes of the examples in their
order, the whole protocol of the extractor, and what decides how sums are rounded (batch size,
device, threads, versions). So the numbers are equal to the last digit, or computed anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from genctl import __version__
from genctl.data import cached_arrays
from genctl.engine import distributed
from genctl.metrics.features.extractor import Extractor, collect
from genctl.metrics.features.prefetch import one_ahead
from genctl.metrics.measure import Array, Features
from genctl.metrics.rows import Rows
from genctl.report.sides import ALL, Examples, Sampled

LAYOUT = 2
"""Part of every identity: raise it when what is kept, or how it is computed, changes."""
TURNS = 8
"""Batches of each process that are exchanged at a time."""


def features_of(
    extractor: Extractor, side: Sampled | Examples, batch_size: int, *, classes: bool = True
) -> Features:
    """Features of one side; several processes take its batches by turns and all get the whole.

    Args:
        extractor: whose features.
        side: the examples.
        batch_size: at a time.
        classes: with the class probabilities, where there are any.
    """
    sizes = [len(range(len(side))[i : i + batch_size]) for i in range(0, len(side), batch_size)]
    shared = len(sizes) >= distributed.world_size()  # else some would have nothing to do
    mine = slice(distributed.rank(), None, distributed.world_size()) if shared else ALL
    batches = side.batches(batch_size, mine)

    def seen() -> Features:
        # A run's network and the extractor would fight for the device.
        if isinstance(side, Sampled):
            return collect(extractor, batches, side.name, classes=classes)
        with one_ahead(batches) as fetched:
            return collect(extractor, fetched, side.name, classes=classes)

    found = distributed.together(seen)  # what one process cannot see, none waits for
    if not shared:
        return found
    return Features(_whole(found.values, sizes), _whole(found.log_probabilities, sizes))


def _whole(mine: Array | None, sizes: Sequence[int]) -> Array | None:
    """The rows of all processes in the order of the batches; some turns are exchanged at a time."""
    ranks = distributed.world_size()
    if mine is None or ranks == 1:
        return mine
    rows, start = Rows(), 0
    for first in range(0, len(sizes), TURNS * ranks):
        group = sizes[first : first + TURNS * ranks]
        stop = start + sum(group[distributed.rank() :: ranks])
        part = torch.from_numpy(np.array(mine[start:stop]))
        rows.append(distributed.in_turns([part], group, part[:0]).numpy())
        start = stop
    return rows.whole()


def real_features(
    extractor: Extractor,
    side: Examples,
    batch_size: int,
    known: dict[str, Features],
    what: str,
    say: Callable[[str], None],
    *,
    keep: bool | None = None,
) -> Features:
    """Features of real examples: known to this process, found in the data cache, or computed.

    Their class probabilities are not among them: no measure asks for those of real examples.

    Args:
        extractor: whose features.
        side: the examples.
        batch_size: at a time.
        known: what this process has seen; the features are added.
        what: the work in words.
        say: told about it.
        keep: write them into the data cache; by default where a network had to compute them.
    """
    facts = distributed.from_main(lambda: identity(extractor, side, batch_size))
    key = key_of(facts)
    found = known.get(key) or _load(key, facts)
    if distributed.any_of(found is None)[0]:  # another machine may have another cache
        say(what)
        found = features_of(extractor, side, batch_size, classes=False)
        network = extractor.protocol.get("extractor_hash") is not None
        if network if keep is None else keep:
            assert found.values is not None
            arrays = {"features": found.values}
            distributed.on_main(lambda: cached_arrays.store(key, arrays, facts))
    elif key not in known:
        say(f"{what}, from the cache")
    assert found is not None
    known[key] = found
    return found


def identity(extractor: Extractor, side: Examples, batch_size: int) -> dict[str, Any]:
    """Everything that the features of these examples depend on, to the last digit."""
    content = hashlib.blake2b(digest_size=16)
    with one_ahead(side.batches(batch_size)) as batches:
        for images in batches:
            content.update(f"{images.dtype}{tuple(images.shape)}".encode())
            content.update(images.contiguous().numpy().data)
    device = torch.device(getattr(extractor, "device", "cpu"))
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    threads, kernels = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    return {
        "layout": LAYOUT,
        "content": content.hexdigest(),
        "n": len(side),
        "protocol": extractor.protocol,
        "batch_size": batch_size,
        "device": [gpu] if gpu else [device.type, threads, kernels],
        "versions": {"genctl": __version__, "torch": metadata.version("torch")},
    }


def key_of(facts: dict[str, Any]) -> str:
    """The name of an entry of the data cache."""
    text = json.dumps(facts, sort_keys=True)
    return f"features-{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _load(key: str, facts: dict[str, Any]) -> Features | None:
    arrays = cached_arrays.load(key, facts)
    return None if arrays is None else Features(arrays["features"])
