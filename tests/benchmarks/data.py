"""The data path: the loader beside a training step, a folder beside ImageFolder, a million names.

Run by hand, with nothing else running::

    python tests/benchmarks/data.py [--json FILE.json] [--small] [--only folder,loader]

Needs no data: photographs are stood for by seeded pictures of fractal noise, cut from one large
one and written as JPEG. What is compared takes turns, and medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import os
import statistics
import struct
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genctl.config.load import load_config
from genctl.data import build, cache, decoding
from genctl.data.archives import open_archive
from genctl.data.cache import Index
from genctl.data.dataset import Dataset, open_dataset
from genctl.data.folder import FolderSource
from genctl.data.loader import Loader
from genctl.engine.construction import begin
from genctl.engine.construction import build as build_training
from genctl.engine.fit import complete
from genctl.types import DataSpec

EDGE, BATCH = 64, 64
SOURCES = {"178x218": ((178, 218), 25.0), "64x64": ((64, 64), 10.0)}
"""Width and height of the files, and how many times the peer's speed a later epoch must reach."""
SMALL_NETS = {"28x28x1 batch 64": (1, 28, 64), "28x28x1 batch 128": (1, 28, 128)}

Row = dict[str, Any]


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: statistics.median(found) for name, found in times.items()}


# --- a folder of photographs --------------------------------------------------------------------
@functools.cache
def fractal(edge: int) -> Tensor:
    """``(3, edge, edge)`` noise in octaves, each half as strong: the spectrum of photographs."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, edge, edge)
    size, strength = 4, 1.0
    while size <= edge:
        octave = torch.randn(1, 3, size, size, generator=generator)
        shape = (edge, edge)
        picture += strength * torch.nn.functional.interpolate(octave, size=shape, mode="bicubic")
        size, strength = 2 * size, strength / 2
    return (picture[0] * 0.2 + 0.5).clamp(0, 1)


def write_photographs(folder: Path, n: int, size: tuple[int, int]) -> None:
    """Windows of one large picture, of changing brightness, as JPEG."""
    width, height = size
    whole = (fractal(1024).permute(1, 2, 0) * 255).numpy()
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        top, left = rng.integers(1024 - height), rng.integers(1024 - width)
        window = whole[top : top + height, left : left + width] * rng.uniform(0.7, 1.0)
        Image.fromarray(window.astype(np.uint8)).save(folder / f"{i:06d}.jpg", quality=90)


def peer_epoch(root: Path, workers: int) -> int:
    """What a script of the field runs; returns the pictures seen."""
    from torchvision import datasets, transforms

    steps = [transforms.Resize(EDGE), transforms.CenterCrop(EDGE), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.5,) * 3, (0.5,) * 3))
    dataset = datasets.ImageFolder(str(root), transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)
    return sum(len(x) for x, _ in loader)


def our_epoch(dataset: Dataset) -> None:
    loader = Loader(dataset, batch_size=BATCH, seed=0, flip=True)
    for _ in range(len(dataset) // BATCH):
        next(loader)


def folder(name: str, here: Path, n: int, rounds: int) -> Row:
    """First and later epochs beside the peer's with its best number of workers."""
    size, goal = SOURCES[name]
    root = here / name
    write_photographs(root / "faces", n, size)
    spec = f"{root}@all"

    def first() -> None:
        cache.clear_cache()
        our_epoch(open_dataset(spec, size=EDGE))

    first()
    dataset = open_dataset(spec, size=EDGE)
    workers = sorted({0, 2, os.cpu_count() or 1})
    found = medians(
        {
            **{f"peer, {w} workers": lambda w=w: peer_epoch(root, w) for w in workers},
            "first epoch": first,
            "later epoch": lambda: our_epoch(dataset),
            "opening": lambda: open_dataset(spec, size=EDGE),
        },
        rounds,
    )
    best = min(found[f"peer, {w} workers"] for w in workers)
    return {
        "part": f"folder {name}",
        "images": n,
        "bytes_a_file": sum(f.stat().st_size for f in (root / "faces").iterdir()) // n,
        "images_per_second": {k: n / v for k, v in found.items() if k != "opening"},
        "opening_seconds": found["opening"],
        "first_epoch_ratio": best / found["first epoch"],
        "first_epoch_goal": 1.0,
        "later_epoch_ratio": best / found["later epoch"],
        "later_epoch_goal": goal,
    }


# --- the loader beside a training step ----------------------------------------------------------
def pictures(n: int, channels: int, edge: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    shape = (n, channels, edge, edge)
    examples = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    spec = DataSpec("image", shape[1:], classes=10)
    return Dataset(spec, examples, labels=torch.arange(n) % 10)


def loader_share(small: bool, rounds: int) -> Row:
    """Seconds of one batch of 64×64×3, mirrored at random, beside those of a DCGAN step."""
    edge, batch, width = (8, 4, 4) if small else (EDGE, BATCH, 64)
    precision = "fp32" if small else "bf16"
    settings = {
        "data.size": "native",
        "train.batch_size": batch,
        "train.precision": precision,
        "model.generator.width": width,
        "model.discriminator.width": width,
    }
    dataset, device = pictures(2048, 3, edge), torch.device("cpu")
    config = complete(load_config("dcgan", settings), dataset, None, device)
    training = build_training(config, dataset, device)
    begin(training, None)
    loader = Loader(dataset, batch_size=batch, seed=0, flip=True)

    def step() -> None:
        training.step += 1
        training.update.begin_step(training.step, False)
        training.model.training_step(training.loader, training.update)

    def batches() -> None:
        for _ in range(20):
            next(loader)

    step()
    batches()
    found = medians({"batches": batches, "step": step}, 3 * rounds)
    return {
        "part": "loader beside a DCGAN step",
        "precision": precision,
        "batch_seconds": found["batches"] / 20,
        "step_seconds": found["step"],
        "share_percent": 100 * found["batches"] / 20 / found["step"],
        "goal_percent": 3.0,
    }


def small_nets(rounds: int) -> list[Row]:
    """Microseconds of a batch where data weighs most."""
    rows = []
    for name, (channels, edge, batch) in SMALL_NETS.items():
        for flip in (False, True):
            loader = Loader(pictures(60_000, channels, edge), batch_size=batch, seed=0, flip=flip)
            next(loader)
            times = [seconds(lambda: next(loader)) for _ in range(100 * rounds)]  # noqa: B023
            label = f"loader {name}{', mirrored' if flip else ''}"
            rows.append({"part": label, "microseconds_a_batch": 1e6 * statistics.median(times)})
    return rows


def mapping(here: Path, n: int, rounds: int) -> Row:
    """A later epoch from the map of the cache and from a copy in memory."""
    root = here / "mapped"
    write_photographs(root, n, (EDGE, EDGE))
    with mock.patch.object(build, "CACHE_FROM_FILES", 0):
        mapped = open_dataset(f"{root}@all", size=EDGE)
    copied = Dataset(mapped.spec, mapped.examples.clone())
    found = medians(
        {"map": lambda: our_epoch(mapped), "memory": lambda: our_epoch(copied)}, 5 * rounds
    )
    return {"part": "memory map", "images": n, "ratio_to_memory": found["memory"] / found["map"]}


# --- a million names ----------------------------------------------------------------------------
def store_entry(key: str, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (len(names), cache.HASH_BYTES), dtype=np.uint8)
    hashes = hashes[np.argsort(hashes.view(">u8")[:, 0])]
    images = rng.integers(0, 256, (len(names), 1, 8, 8), dtype=np.uint8)
    cache.store(key, iter([images]), images.shape, Index(names, hashes))


def bare(root: Path) -> None:
    """What the system itself takes to say which files there are, and when each was changed."""
    for folder_name in os.listdir(root):
        for entry in os.scandir(root / folder_name):
            entry.stat()


def index_of_many(here: Path, n: int, rounds: int) -> list[Row]:
    """From the SPEC to the first batch where all is cached; listing the files apart.

    The files are empty and the entry is made up: nothing is decoded.
    """
    root, archive = here / "many", here / "many.tar"
    names = [f"{k // 1000:04d}/{k % 1000:04d}.png" for k in range(n)]
    for folder_name in sorted({name.split("/")[0] for name in names}):
        (root / folder_name).mkdir(parents=True)
    for name in names:
        os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))
    tarfile.open(archive, "w").close()
    transform = decoding.Transform("native", "centre")
    source = FolderSource(root)
    store_entry(build._key(source, source.listing(), transform), names)
    store_entry(build._key(open_archive(archive), None, transform), names)
    rows = []
    for what, spec in (("an archive", archive), ("a folder", root)):
        whole, listed = [], []
        for _ in range(rounds):
            spent: list[float] = []

            def listing(self: FolderSource, spent: list[float] = spent) -> Any:
                start = time.perf_counter()
                found = LISTING(self)
                spent.append(time.perf_counter() - start)
                return found

            with mock.patch.object(FolderSource, "listing", listing):
                whole.append(
                    seconds(lambda: next(Loader(open_dataset(str(spec)), batch_size=64, seed=0)))  # noqa: B023
                )
            listed.append(sum(spent))
        rows.append(
            {
                "part": f"index of {n:,} images in {what}",
                "seconds_to_first_batch": statistics.median(whole),
                "of_which_listing_files": statistics.median(listed),
                "bare_names_and_stat": statistics.median(
                    seconds(functools.partial(bare, root)) for _ in "abc"
                )
                if listed[0]
                else 0,
                "seconds_without_listing": statistics.median(
                    a - b for a, b in zip(whole, listed, strict=True)
                ),
                "goal_seconds": 2.0,
            }
        )
    return rows


LISTING = FolderSource.listing


def opening_mnist(here: Path, n: int, rounds: int) -> Row:
    """The ubyte files as they are and as they are downloaded."""
    rng = np.random.default_rng(0)
    roots = {"plain": here / "plain", "gzip": here / "gzip"}
    for kind, root in roots.items():
        root.mkdir()
        for part, count in (("train", n), ("t10k", n // 6)):
            images = np.where(rng.random((count, 28, 28)) < 0.2, 200, 0).astype(np.uint8)
            labels = rng.integers(0, 10, count, dtype=np.uint8)
            for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
                head = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
                data, suffix = head + array.tobytes(), ""
                if kind == "gzip":
                    data, suffix = gzip.compress(data, 6), ".gz"
                (root / f"{part}-{stem}-ubyte{suffix}").write_bytes(data)
    found = medians(
        {kind: lambda root=root: open_dataset(f"mnist:{root}") for kind, root in roots.items()},
        rounds,
    )
    return {"part": f"opening MNIST's files, {n:,} images", "seconds": found}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the record there")
    parser.add_argument("--small", action="store_true", help="see that everything runs")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", default="folder,loader,small,map,index,mnist")
    options = parser.parse_args(arguments)
    small, parts = options.small, options.only.split(",")
    rounds = options.rounds or (1 if small else 5)
    n = 130 if small else 5000
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ):
        here = Path(place)
        os.environ["GENCTL_CACHE"] = str(here / "cache")
        if "loader" in parts:
            rows.append(loader_share(small, rounds))
        if "small" in parts:
            rows += small_nets(rounds)
        if "map" in parts:
            rows.append(mapping(here, n, rounds))
        if "mnist" in parts:
            rows.append(opening_mnist(here, 600 if small else 60_000, rounds))
        if "folder" in parts:
            with mock.patch.object(build, "CACHE_FROM_FILES", 0):
                rows += [folder(name, here, n, rounds) for name in SOURCES]
        if "index" in parts:
            rows += index_of_many(here, 2000 if small else 1_000_000, min(3, rounds))
    record = {
        "benchmark": "data",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "rows": rows,
    }
    print(json.dumps(record, indent=1))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
