"""Whether bfloat16 trains as well as float32: the same images and seeds in each, scored alike.

Run by hand; it needs real data and hours, and goes on where it was stopped::

    python tests/benchmarks/precision.py --mnist ROOT --faces FOLDER --work FOLDER
        --classifier RUN [--only began,dcgan-mnist] [--json FILE.json]

Each comparison trains a preset for some steps in float32 and in bfloat16, the WGAN-GP also with its
penalty in bfloat16, from each seed. ``share_of_noise`` says what a difference of the means is worth: below 2, it is within
what the seeds alone make (Welch's t). ``beyond_fp32`` is the difference at each seed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRECISIONS = {"fp32": ("train.precision=fp32",), "bf16": ("train.precision=bf16",)}
PENALTY_TOO = ("train.precision=bf16", "model.penalty.precision=autocast")


@dataclass(frozen=True)
class Comparison:
    """A preset, how long it trains, and how it is scored.

    Attributes:
        changes: what makes it short enough for a CPU, equal on all sides.
        scoring: words of ``genctl evaluate`` behind the run and the data.
        held_out: scored against the test split; else against the data trained on.
        sides: what is compared, and what makes it so.
        seeds: equal on all sides.
    """

    preset: str
    data: str
    steps: int
    scoring: tuple[str, ...]
    metric: str
    changes: tuple[str, ...] = ()
    held_out: bool = True
    sides: dict[str, tuple[str, ...]] = field(default_factory=lambda: PRECISIONS)
    seeds: tuple[int, ...] = (0, 1, 2)


CLASSIFIER = ("--fid", "--features", "CLASSIFIER", "-n", "5000")
NARROW = ("model.generator.width=16", "model.discriminator.width=16", "data.size=32")
FASTER = ("optim.discriminator.lr=4e-4", "optim.generator.lr=4e-4")
COMPARISONS = [
    # Seed 2 collapses in both precisions, so there is one more.
    Comparison("dcgan-mnist", "mnist", 800, CLASSIFIER, "fd", seeds=(0, 1, 2, 3)),
    Comparison(
        "wgan-gp-mnist",
        "mnist",
        400,
        CLASSIFIER,
        "fd",
        FASTER,
        sides={**PRECISIONS, "bf16, penalty too": PENALTY_TOO},
    ),
    Comparison(
        "began",
        "faces",
        800,
        ("--fid", "--features", "pixels", "-n", "2000"),
        "fd",
        NARROW,
        held_out=False,
    ),
    Comparison("pixelcnn-mnist", "mnist", 300, ("--nll", "-n", "2000"), "nll"),
]


def run(words: list[str]) -> str:
    """One genctl command on one thread, so that two comparisons can run side by side."""
    command = [sys.executable, "-m", "genctl", *words, "--device", "cpu", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE
    ).stdout.decode()


def score(
    comparison: Comparison, side: str, seed: int, places: dict[str, str], work: Path
) -> dict[str, float]:
    """Train one run, unless it is there, and measure it: its score and its seconds."""
    folder = work / f"{comparison.preset}-{side.replace(', ', '-').replace(' ', '-')}-{seed}"
    found = folder.with_suffix(".json")
    spec = places[comparison.data]
    if not found.exists():
        if not folder.exists():
            changes = [*comparison.changes, *comparison.sides[side]]
            changes += ["log.preview_every=0", "evaluate.measures=[]"]
            sets = [word for change in changes for word in ("--set", change)]
            words = ["train", "--preset", comparison.preset, "--data", spec, *sets]
            words += ["--steps", str(comparison.steps), "--seed", str(seed), "--out", str(folder)]
            run(words)
        scoring = [places.get(word, word) for word in comparison.scoring]
        real = f"{spec}@test" if comparison.held_out else spec
        found.write_text(run(["evaluate", str(folder), real, *scoring, "--json"]))
    value = json.loads(found.read_text())["metrics"][comparison.metric]
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {"score": value.get("value", value.get("nats")), "seconds": last["seconds"]}


def compare(comparison: Comparison, places: dict[str, str], work: Path) -> dict[str, Any]:
    """All seeds of all sides of one comparison, as a row of the record."""
    row: dict[str, Any] = {
        "preset": comparison.preset,
        "data": comparison.data,
        "steps": comparison.steps,
        "changes": list(comparison.changes),
        "metric": f"{comparison.metric}: {' '.join(comparison.scoring)}",
        "seeds": list(comparison.seeds),
        "sides": {},
    }
    for side in comparison.sides:
        runs = [score(comparison, side, seed, places, work) for seed in comparison.seeds]
        scores = [one["score"] for one in runs]
        row["sides"][side] = {
            "scores": scores,
            "mean": statistics.mean(scores),
            "deviation": statistics.stdev(scores),
            "seconds": [one["seconds"] for one in runs],
        }
    full = row["sides"]["fp32"]["scores"]
    for side in row["sides"].values():
        side["share_of_noise"] = share_of_noise(side["scores"], full)
        side["beyond_fp32"] = [a - b for a, b in zip(side["scores"], full, strict=True)]
    return row


def share_of_noise(a: list[float], b: list[float]) -> float:
    """Welch's t: the difference of two means in units of its standard error."""
    error = (statistics.variance(a) / len(a) + statistics.variance(b) / len(b)) ** 0.5
    difference = abs(statistics.mean(a) - statistics.mean(b))
    return difference / error if error else 0.0


def main(arguments: list[str] | None = None) -> None:
    names = [comparison.preset for comparison in COMPARISONS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", required=True, help="root of MNIST")
    parser.add_argument("--faces", required=True, help="a folder of faces")
    parser.add_argument("--classifier", required=True, help="a run of classifier-mnist")
    parser.add_argument("--work", type=Path, required=True, help="runs are kept here")
    parser.add_argument("--only", default=",".join(names), help="comma-separated presets")
    parser.add_argument("--json", type=Path, help="write the record here")
    options = parser.parse_args(arguments)
    places = {"mnist": f"mnist:{options.mnist}", "faces": options.faces}
    places["CLASSIFIER"] = options.classifier
    chosen = [one for one in COMPARISONS if one.preset in options.only.split(",")]
    record = {
        "benchmark": "precision",
        "rows": [compare(one, places, options.work) for one in chosen],
    }
    text = json.dumps(record, indent=1) + "\n"
    print(text, end="")
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
