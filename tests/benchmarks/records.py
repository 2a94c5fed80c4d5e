"""The README's table of speed, written from the records of this folder::

python tests/benchmarks/records.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORKLOADS = {
    "dcgan": "DCGAN 64×64, batch 64",
    "wgan-gp": "WGAN-GP 32×32, batch 64",
    "conv-gan": "DCGAN 28×28",
    "mlp-gan": "fully connected GAN 28×28",
    "vae": "VAE 784–400–20, batch 128",
}


def record(name: str) -> dict[str, Any]:
    """One record of this folder."""
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return found


def training() -> list[str]:
    """Rows of ratios: one and two threads, bf16 and fp32, and what the levers give by hand."""
    runs = [record("training-one-thread"), record("training")]
    lines = ["| training step | 1 thread | 2 threads |", "|---|---|---|"]
    for workload, title in WORKLOADS.items():
        cells = []
        for run in runs:
            ratios = {
                row["variant"]: row["ratio"] for row in run["rows"] if row["workload"] == workload
            }
            cells.append(
                f"bf16 {ratios['bf16']:.1f}×, fp32 {ratios['fp32']:.1f}×; by hand "
                f"{ratios['by hand']:.1f}×"
            )
        lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    peaks = [run["gemm_gflop_per_second"] for run in runs]
    shown = [f"{p['bf16']:,.0f} in bf16, {p['fp32']:,.0f} in fp32" for p in peaks]
    lines.append(f"| GFLOP/s of the best matrix product there | {shown[0]} | {shown[1]} |")
    return lines


def other() -> list[str]:
    """Rows of everything but training."""
    rows = {row["part"]: row for row in record("data")["rows"]}
    sampling = {row["batch"]: row["ratio"] for row in record("pixelcnn_sampling")["rows"]}
    share = rows["loader beside a DCGAN step"]["share_percent"]
    index = rows["index of 1,000,000 images in an archive"]["seconds_to_first_batch"]
    lines = ["| elsewhere | beside | |", "|---|---|---|"]
    lines.append(
        f"| PixelCNN sampling, 28×28, batch 16 | a forward pass a pixel | {sampling[16]:.0f}× |"
    )
    for size in ("178x218", "64x64"):
        row = rows[f"folder {size}"]
        lines.append(
            f"| epochs over {row['images']:,} JPEGs of {size.replace('x', '×')} | the fastest "
            f"ImageFolder loader | first {row['first_epoch_ratio']:.1f}×, later "
            f"{row['later_epoch_ratio']:.0f}× |"
        )
    lines.append(f"| the loader | a DCGAN step in bf16 | {share:.1f} % of it |")
    lines.append(f"| opening an archive of 1,000,000 images | | {index:.1f} s |")
    evaluation = record("evaluation")
    for row in evaluation["pipeline"]:
        if row["program"].startswith("genctl"):
            lines.append(
                f"| FID and Inception score of {evaluation['images']}, {row['program'][7:]} "
                f"| torch-fidelity | {row['ratio']:.1f}× |"
            )
    for row in evaluation["trace"]:
        lines.append(
            f"| FID's trace term of {row['rows']:,} × {row['dimensions']} features | scipy's sqrtm "
            f"| {row['ratio_to_sqrtm']:.0f}× |"
        )
    return lines


def table() -> str:
    """Both tables as the README has them."""
    return "\n".join([*training(), "", *other()])


if __name__ == "__main__":
    print(table())
