"""Cached against plain sampling of a PixelCNN at 28×28: the same picture, how much sooner.

Run by hand, with nothing else running::

    python tests/benchmarks/pixelcnn_sampling.py [--batch 16] [--out FILE.json]

The plain scan runs the whole network once for each of the 784 pixels; it is timed on its first rows
and scaled, since every pixel costs it the same. The two are interleaved in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from genctl import registry
from genctl.networks.layers.raster_scan import cached_scan
from genctl.types import DataSpec


def measure(batch: int, rounds: int = 3, forwards: int = 6) -> dict[str, float]:
    """Median seconds of both scans and their ratio."""
    torch.manual_seed(0)
    spec = DataSpec("image", (1, 28, 28), levels=2)
    network = registry.get("density", "pixelcnn").build(spec, width=64, depth=7).eval()
    noise = torch.rand(batch, 1, 28, 28)
    given = torch.zeros_like(noise, dtype=torch.bool)
    cached, plain = [], []
    with torch.inference_mode():
        cached_scan(network, noise, given, noise)
        network(noise)
        for _ in range(rounds):
            start = time.perf_counter()
            cached_scan(network, noise, given, noise)
            cached.append(time.perf_counter() - start)
            start = time.perf_counter()
            for _ in range(forwards):
                network(noise)
            plain.append((time.perf_counter() - start) / forwards * 784)
    a, b = statistics.median(cached), statistics.median(plain)
    return {"batch": batch, "cached_seconds": a, "plain_seconds": b, "ratio": b / a}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [measure(batch) for batch in options.batch]
    record = {
        "benchmark": "pixelcnn_sampling",
        "network": "7 residual blocks, width 64, 28×28, 2 levels",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
