"""What a GPU gives: presets eager, compiled and as graphs, against the plain loop; FID's network.

Run by hand on a machine with a GPU, with nothing else running, in about ten minutes, most of which
the compiler takes::

    python tests/benchmarks/gpu.py --json tests/benchmarks/gpu.json

Each row of ``training`` is what ``genctl bench`` says of a preset, on random pictures of its size:
images a second, the share of the measured peak, and the ratio to the plain loop of the same networks,
turn by turn. ``network`` is the table of ``evaluation.py``. The record kept beside this file says what
has been measured so far.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import evaluation
import random_inception
import torch

from genctl.config.load import load_config
from genctl.report.bench import bench

GOAL = 3.0
PRESETS: dict[str, list[str]] = {
    "dcgan": ["data.size=64"],
    "wgan-gp": [],
    "began": [],
    "vae-mnist": [],
    "pixelcnn-mnist": [],
}
"""And what is changed of each."""
KEPT = (
    "precision",
    "batch_size",
    "shape",
    "images_per_second",
    "flops_utilisation",
    "ratio_to_plain",
    "ratio_range",
    "peak_memory_bytes",
    "compiled",
    "rounds",
)


WAYS = {"eager": "false", "compiled": "true", "graphs": "graphs"}
"""And what ``train.compile`` is for each."""


def training(
    presets: list[str], device: str, seconds: float, changes: list[str]
) -> list[dict[str, Any]]:
    """A row for each preset in each way, printed as they come."""
    rows = []
    for preset in presets:
        for way, wanted in WAYS.items():
            given = [*PRESETS[preset], *changes, f"train.compile={wanted}"]
            found = bench(load_config(preset, given), device=device, seconds=seconds)
            row = {"preset": preset, "way": way, "goal": GOAL, **{key: found[key] for key in KEPT}}
            rows.append(row)
            print(
                f"{preset:15} {way:8} {row['precision']} "
                f"{row['images_per_second']:10.1f} images/s {row['ratio_to_plain']:5.2f}x "
                f"{row['flops_utilisation']:6.1%} of peak",
                flush=True,
            )
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="another one shows that it runs")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row of training")
    parser.add_argument("--only", default=",".join(PRESETS), help="comma-separated presets")
    parser.add_argument("--batch", type=int, default=256, help="of FID's network")
    parser.add_argument("--set", action="append", default=[], help="changed in every preset")
    parser.add_argument("--json", type=Path, help="write the record here")
    given = parser.parse_args(arguments)
    record: dict[str, Any] = {
        "benchmark": "gpu",
        "device": torch.cuda.get_device_name() if given.device == "cuda" else given.device,
        "torch": torch.__version__,
        "training": training(given.only.split(","), given.device, given.seconds, given.set),
    }
    with tempfile.TemporaryDirectory() as place:
        weights = random_inception.save(Path(place) / "random.pth")
        record["network"] = evaluation.networks(weights, given.batch, 3, given.device)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


if __name__ == "__main__":
    main()
