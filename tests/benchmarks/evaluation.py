"""FID and Inception score of two folders: genctl against torch-fidelity and pytorch-fid.

Run by hand, with nothing else running::

    python tests/benchmarks/evaluation.py [--images 1000] [--rounds 3] [--json FILE.json]

Five tables. ``pipeline``: from two folders of 64×64 PNGs to the numbers, everything included;
torch-fidelity with its defaults (batch 64, worker processes) and without its cache of results, the
flow of pytorch-fid (batch 50, worker processes, scipy's matrix root) around the same network, and
``genctl evaluate`` with an empty data cache. ``network``: uint8 batches in memory to features.
``trace``: Tr (Σ₁Σ₂)^½ alone, from fitted statistics. ``rest``: what comes after the features, once,
of 10,000 a side, and its share of an evaluation at the network's own speed. ``memory``: the most
that precision, recall, density, coverage and the clusters of prd take, of 10,000 a side, in a process
of their own. Rounds are interleaved in one process, and medians are compared. The weights are random but the same for all, so the values must agree too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import random_inception
import scipy.linalg
import torch
import torch_fidelity
from PIL import Image
from torch.utils.data import DataLoader

from genctl.metrics import (
    density_coverage,
    frechet,
    inception_score,
    kid,
    prd,
    precision_recall,
)
from genctl.metrics.features.inception import Inception
from genctl.metrics.frechet import fit, trace_of_root
from genctl.metrics.measure import Evidence, Features, Settings
from genctl.report.evaluate import evaluate

EDGE = 64
NETWORK_BATCH = 32
TRACE_ROWS = (1000, 5000)
DIMENSIONS = 2048
REST_ROWS = 10_000
REST_GOAL = 0.05
MEMORY_GOAL = 2048
GOALS = {"genctl fp32": 2.0, "genctl bf16": 6.0}
TRACE_GOALS = {"N < D": 80.0, "N >= D": 15.0}


# --- the pipelines -------------------------------------------------------------------------------
def by_torch_fidelity(a: Path, b: Path, weights: Path, device: str) -> dict[str, float]:
    """Its own entry point, FID and Inception score, nothing cached."""
    found = torch_fidelity.calculate_metrics(
        input1=str(a),
        input2=str(b),
        feature_extractor_weights_path=str(weights),
        fid=True,
        isc=True,
        isc_splits=_splits(a),
        cuda=device == "cuda",
        cache=False,
        verbose=False,
    )
    return {"fid": found["frechet_inception_distance"], "is": found["inception_score_mean"]}


class _Files(torch.utils.data.Dataset):
    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        array = np.array(Image.open(self.paths[i]).convert("RGB"))
        return torch.from_numpy(array).permute(2, 0, 1)


def by_pytorch_fid(a: Path, b: Path, weights: Path, device: str) -> dict[str, float]:
    """The flow of pytorch-fid's ``calculate_fid_given_paths`` around torch-fidelity's network."""
    network = _plain_network(weights, device)
    moments = []
    for folder in (a, b):
        files = _Files(folder)
        loader = DataLoader(files, 50, num_workers=min(8, os.cpu_count() or 1))
        with torch.no_grad():
            rows = np.concatenate([network(x.to(device))[0].cpu().numpy() for x in loader])
        moments.append((rows.mean(axis=0), np.cov(rows, rowvar=False)))
    (mean1, cov1), (mean2, cov2) = moments
    value = ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2)
    return {"fid": float(value - 2 * by_sqrtm(cov1, cov2))}


def by_genctl(a: Path, b: Path, weights: Path, device: str, precision: str) -> dict[str, float]:
    """What the command does, with an empty cache of decoded pictures."""
    before = os.environ.get("GENCTL_CACHE")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GENCTL_CACHE"] = cache
        try:
            result = evaluate(
                a,
                b,
                ["fid", "is"],
                inception_weights=weights,
                is_splits=_splits(a),
                device=device,
                precision=precision,
            )
        finally:
            os.environ.pop("GENCTL_CACHE")
            if before is not None:
                os.environ["GENCTL_CACHE"] = before
    found = result["metrics"]
    return {"fid": found["fid"]["value"], "is": found["is"]["mean"]}


def _splits(folder: Path) -> int:
    return min(10, sum(1 for _ in folder.glob("*.png")))


def _plain_network(weights: Path, device: str) -> torch.nn.Module:
    return torch_fidelity.utils.create_feature_extractor(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        cuda=device == "cuda",
        feature_extractor_weights_path=str(weights),
        verbose=False,
    )


def pipelines(weights: Path, images: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """One row a program: median seconds from files to numbers, the numbers, ratio to the first."""
    programs: dict[str, Callable[[Path, Path, Path, str], dict[str, float]]] = {
        "torch-fidelity": by_torch_fidelity,
        "pytorch-fid flow": by_pytorch_fid,
        "genctl fp32": lambda *given: by_genctl(*given, "fp32"),
        "genctl bf16": lambda *given: by_genctl(*given, "bf16"),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    values: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folders = (
            _folder(place / "a", images, (40, 80), 1),
            _folder(place / "b", images, (60, 99), 2),
        )
        for _ in range(rounds):
            for program, run in programs.items():
                start = time.perf_counter()
                values[program] = run(*folders, weights, device)
                times[program].append(time.perf_counter() - start)
    first = statistics.median(times["torch-fidelity"])
    expected = values["torch-fidelity"]["fid"]
    rows = []
    for program, found in times.items():
        seconds = statistics.median(found)
        rows.append(
            {
                "program": program,
                "seconds": seconds,
                "images_per_second": 2 * images / seconds,
                "ratio": first / seconds,
                "goal": GOALS.get(program),
                **values[program],
                "fid_relative_difference": values[program]["fid"] / expected - 1,
            }
        )
    return rows


def _folder(path: Path, n: int, contrast: tuple[float, float], seed: int) -> Path:
    path.mkdir()
    for i, image in enumerate(random_inception.pictures(n, contrast, EDGE, seed)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path / f"{i:06d}.png")
    return path


# --- the network ---------------------------------------------------------------------------------
def networks(weights: Path, batch: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Images a second from uint8 in memory to features, resize included."""
    images = random_inception.pictures(batch, (40, 80), EDGE).to(device)
    variants: dict[str, Callable[[torch.Tensor], Any]] = {
        "torch-fidelity": _plain_network(weights, device),
        **{f"genctl {p}": Inception(weights, device, precision=p) for p in ("fp32", "bf16")},
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        for i in range(rounds + 1):
            for name, network in variants.items():
                start = time.perf_counter()
                network(images)[0].float().cpu()
                if i:  # the first is for warming up
                    times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    return [
        {
            "variant": name,
            "batch": batch,
            "images_per_second": batch / seconds,
            "ratio": medians["torch-fidelity"] / seconds,
        }
        for name, seconds in medians.items()
    ]


# --- the trace -----------------------------------------------------------------------------------
def by_sqrtm(cov1: np.ndarray, cov2: np.ndarray) -> float:
    """As pytorch-fid and clean-fid take it."""
    return float(np.trace(scipy.linalg.sqrtm(cov1 @ cov2)).real)


def by_eigvals(cov1: np.ndarray, cov2: np.ndarray) -> float:
    """As torch-fidelity takes it."""
    return float(np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex)).real.sum())


def traces(n: int, dimensions: int, rounds: int) -> dict[str, Any]:
    """Median seconds of the three ways, from what each keeps of a side, and how far they differ."""
    rng = np.random.default_rng(0)
    # Few strong directions and many weak ones, as features have.
    scale = 1.0 / np.sqrt(1.0 + np.arange(dimensions))
    sides = [rng.standard_normal((n, dimensions)) * scale * s for s in (1.0, 1.2)]
    fitted = [fit(side) for side in sides]
    covariances = [np.cov(side, rowvar=False) for side in sides]
    ways: dict[str, Callable[[], float]] = {
        "sqrtm": lambda: by_sqrtm(*covariances),
        "eigvals": lambda: by_eigvals(*covariances),
        "genctl": lambda: trace_of_root(*fitted),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            values[name] = way()
            times[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    total = sum(side.trace for side in fitted)
    kind = "N < D" if n < dimensions else "N >= D"
    return {
        "rows": n,
        "dimensions": dimensions,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "ratio_to_sqrtm": seconds["sqrtm"] / seconds["genctl"],
        "ratio_to_eigvals": seconds["eigvals"] / seconds["genctl"],
        "goal": TRACE_GOALS[kind],
        "difference_of_traces": abs(values["genctl"] - values["sqrtm"]) / total,
    }


def rest(n: int, dimensions: int, images_per_second: float) -> dict[str, Any]:
    """Seconds of every measure, from features that are there, and what part of the whole they are.

    The two samples of equal spread and the thousand classes are made up: no measure's time depends
    on the values.
    """
    rng = np.random.default_rng(0)

    def side() -> Features:
        values = rng.standard_normal((n, dimensions), dtype=np.float32)
        return Features(values, inception_score.log_softmax(rng.standard_normal((n, 1000))))

    evidence, seconds = Evidence(side(), side()), {}
    for module in (frechet, inception_score, kid, precision_recall, density_coverage, prd):
        start = time.perf_counter()
        module.MEASURE.take(evidence, Settings())
        seconds[module.MEASURE.name] = time.perf_counter() - start
    network = 2 * n / images_per_second
    unasked = sum(seconds[name] for name in ("fid", "is", "kid"))
    return {
        "rows": n,
        "dimensions": dimensions,
        "network_seconds": network,
        "seconds": seconds,
        "share_of_fid_is_kid": unasked / (network + unasked),
        "share_of_all": sum(seconds.values()) / (network + sum(seconds.values())),
        "goal": REST_GOAL,
    }


# --- the memory ----------------------------------------------------------------------------------
def memory(n: int, dimensions: int) -> dict[str, Any]:
    """Peak memory of the measures that compare every row with every other, in MiB."""
    fresh = multiprocessing.get_context("spawn")  # a fork would begin with this process's pages
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(peak, n, dimensions).result()


def peak(n: int, dimensions: int) -> dict[str, Any]:
    """The same of this process: before anything is there, with the features, and at the most."""
    before = _peak_mib()
    rng = np.random.default_rng(0)
    sides = [rng.standard_normal((n, dimensions), dtype=np.float32) for _ in range(2)]
    loaded = _peak_mib()
    evidence = Evidence(*(Features(side) for side in sides))
    for module in (precision_recall, density_coverage, prd):
        module.MEASURE.take(evidence, Settings())
    return {
        "rows": n,
        "dimensions": dimensions,
        "measures": ["pr", "dc", "prd"],
        "imported_mib": before,
        "with_features_mib": loaded,
        "peak_mib": _peak_mib(),
        "goal_mib": MEMORY_GOAL,
    }


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith("VmHWM"))
    return round(int(found.split()[1]) / 2**10, 1)


# --- the command ---------------------------------------------------------------------------------
def run(
    weights: Path,
    only: list[str],
    images: int,
    rounds: int,
    device: str,
    batch: int,
    dimensions: int,
) -> dict[str, Any]:
    """The record, printed as it grows."""
    record: dict[str, Any] = {
        "benchmark": "evaluation",
        "images": f"2 × {images} PNGs of {EDGE}×{EDGE}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "torch_fidelity": torch_fidelity.__version__,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
    }
    if "network" in only:
        record["network"] = networks(weights, batch, rounds, device)
        for row in record["network"]:
            print(
                f"network   {row['variant']:17} {row['images_per_second']:8.1f} images/s "
                f"{row['ratio']:6.2f}x",
                flush=True,
            )
    if "trace" in only:
        sizes = [max(2, n * dimensions // DIMENSIONS) for n in TRACE_ROWS]
        record["trace"] = [traces(n, dimensions, rounds) for n in sizes]
        for row in record["trace"]:
            print(
                f"trace     N = {row['rows']:<5} sqrtm {row['sqrtm_seconds']:7.3f} s, eigvals "
                f"{row['eigvals_seconds']:6.3f} s, genctl {row['genctl_seconds']:6.3f} s "
                f"{row['ratio_to_sqrtm']:6.1f}x, difference {row['difference_of_traces']:.1e}",
                flush=True,
            )
    if "rest" in only:
        speeds = record.get("network") or networks(weights, batch, 1, device)
        speed = {row["variant"]: row["images_per_second"] for row in speeds}["genctl fp32"]
        row = record["rest"] = rest(
            max(20, REST_ROWS * dimensions // DIMENSIONS), dimensions, speed
        )
        print(
            f"rest      N = {row['rows']} a side: "
            + ", ".join(f"{name} {value:.1f} s" for name, value in row["seconds"].items())
            + f"; network {row['network_seconds']:.0f} s, so {row['share_of_all']:.1%} of the whole",
            flush=True,
        )
    if "memory" in only:
        row = record["memory"] = memory(max(20, REST_ROWS * dimensions // DIMENSIONS), dimensions)
        print(
            f"memory    N = {row['rows']} a side: {row['peak_mib']:.0f} MiB at the most, "
            f"{row['with_features_mib']:.0f} MiB before the measures",
            flush=True,
        )
    if "pipeline" in only:
        record["pipeline"] = pipelines(weights, images, rounds, device)
        for row in record["pipeline"]:
            print(
                f"pipeline  {row['program']:17} {row['seconds']:8.2f} s "
                f"{row['images_per_second']:8.1f} images/s {row['ratio']:6.2f}x  "
                f"FID {row['fid']:.6f} ({row['fid_relative_difference']:+.1e})",
                flush=True,
            )
    return record


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    tables = ["network", "trace", "rest", "memory", "pipeline"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(tables), help="comma-separated tables")
    parser.add_argument("--images", type=int, default=1000, help="in each of the two folders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=NETWORK_BATCH, help="of the network alone")
    parser.add_argument(
        "--dimensions", type=int, default=DIMENSIONS, help="of trace, rest and memory"
    )
    parser.add_argument("--json", type=Path, help="write the record here")
    given = parser.parse_args(arguments)
    only = given.only.split(",")
    if strange := set(only) - set(tables):
        parser.error(f"unknown: {', '.join(sorted(strange))}; there are {', '.join(tables)}")
    if given.images < 2:
        parser.error("--images: a covariance needs at least 2")
    sizes = given.images, given.rounds, given.device, given.batch, given.dimensions
    with tempfile.TemporaryDirectory() as place:
        record = run(random_inception.save(Path(place) / "random.pth"), only, *sizes)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


if __name__ == "__main__":
    main()
