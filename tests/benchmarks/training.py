"""Training steps of genctl against the loops that example scripts run, in one process.

Run by hand, with nothing else running::

    python tests/benchmarks/training.py [--only dcgan,vae] [--rounds 5] [--json FILE.json]

Rounds are interleaved: in each, every variant trains for about two seconds. A ratio is the median
over the rounds of the ratio within one: a machine whose speed changes between rounds, as virtual
ones do, then changes none of them. The loader, the log window and the averaged weights are part of genctl's steps;
the peers of 32×32 and 64×64 pictures get theirs as ready floats at no cost. ``by hand`` is the peer
with the simple levers (``by_hand.py``). Before each round the best matrix product in bfloat16 is
timed: virtual cores that share a real one halve it, and the ratios with it. ``layers`` is the table
by which ``networks/layers/gemm_convolution.py`` decides, direction by direction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import by_hand
import peers
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from genctl.config.load import load_config
from genctl.data.dataset import Dataset
from genctl.engine.construction import begin, build
from genctl.engine.fit import complete
from genctl.engine.state import Training
from genctl.networks.layers import gemm_convolution
from genctl.networks.layers.gemm_convolution import MAPS, Geometry
from genctl.types import DataSpec

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
WAYS = {"peer": peers, "by hand": by_hand}


@dataclass(frozen=True)
class Size:
    """One workload's dimensions."""

    edge: int
    channels: int
    batch: int
    width: int
    latent: int
    examples: int

    def small(self) -> Size:
        """For seeing that everything runs."""
        return Size(8, self.channels, 4, 4, 3, 16)

    def pictures(self) -> Tensor:
        torch.manual_seed(0)
        shape = (self.examples, self.channels, self.edge, self.edge)
        return torch.randint(0, 256, shape, dtype=torch.uint8)


@dataclass(frozen=True)
class Workload:
    """The same networks as a preset of genctl and as a plain loop."""

    name: str
    size: Size
    preset: str
    changes: Callable[[Size], dict[str, Any]]
    loop: Callable[[Size, Tensor, ModuleType], Any]
    goals: dict[str, float]
    precisions: tuple[str, ...] = ("bf16", "fp32")


def _dcgan(s: Size, x: Tensor, way: ModuleType) -> Any:
    data = (way.ready if s.channels == 3 else way.item_by_item)(x, s.batch)
    generator = peers.dcgan_generator(s.latent, s.channels, s.edge, s.width)
    discriminator = peers.dcgan_discriminator(s.channels, s.edge, s.width)
    return way.GANLoop(generator, discriminator, s.latent, data)


def _wgan_gp(s: Size, x: Tensor, way: ModuleType) -> Any:
    generator = peers.dcgan_generator(s.latent, s.channels, s.edge, s.width)
    critic = peers.critic(s.channels, s.edge, s.width)
    return way.WGANGPLoop(generator, critic, s.latent, way.ready(x, s.batch))


def _mlp_gan(s: Size, x: Tensor, way: ModuleType) -> Any:
    nets = peers.mlp_generator(s.latent, s.edge, s.width), peers.mlp_discriminator(s.edge, s.width)
    return way.GANLoop(*nets, s.latent, way.item_by_item(x, s.batch))


def _vae(s: Size, x: Tensor, way: ModuleType) -> Any:
    data = way.item_by_item(x, s.batch, normalise=False)
    return way.VAELoop(peers.VAE(s.edge, s.width, s.latent), data)


def _game(s: Size) -> dict[str, Any]:
    return {
        "model.latent_dim": s.latent,
        "model.generator.width": s.width,
        "model.discriminator.width": s.width,
    }


def _coder(s: Size) -> dict[str, Any]:
    coder = {"kind": "mlp", "width": s.width, "depth": 1}
    return {
        "model.latent_dim": s.latent,
        "model.encoder": coder,
        "model.decoder": coder,
        "model.likelihood": "bernoulli",
        "data.binarise": "threshold",
    }


WORKLOADS = [
    Workload(
        "dcgan", Size(64, 3, 64, 64, 100, 2048), "dcgan", _game, _dcgan, {"bf16": 2.8, "fp32": 1.2}
    ),
    Workload("wgan-gp", Size(32, 3, 64, 64, 128, 4096), "wgan-gp", _game, _wgan_gp, {"bf16": 2.2}),
    Workload("mlp-gan", Size(28, 1, 64, 256, 64, 60_000), "gan", _game, _mlp_gan, {"bf16": 2.4}),
    Workload("conv-gan", Size(28, 1, 64, 64, 100, 60_000), "dcgan", _game, _dcgan, {"bf16": 3.5}),
    Workload("vae", Size(28, 1, 128, 400, 20, 60_000), "vae", _coder, _vae, {"bf16": 3.5}),
]


def engine(workload: Workload, size: Size, pictures: Tensor, precision: str) -> Training:
    """The training as ``genctl train`` would build it."""
    settings = {
        "data.size": "native",
        "train.batch_size": size.batch,
        "train.precision": precision,
        **workload.changes(size),
    }
    config = load_config(workload.preset, settings)
    levels = 256 if config.data.binarise == "none" else 2
    spec = DataSpec("image", tuple(pictures.shape[1:]), levels=levels)
    dataset = Dataset(spec, pictures, binarise=config.data.binarise)
    device = torch.device("cpu")
    training = build(complete(config, dataset, None, device), dataset, device)
    begin(training, None)
    return training


def train(training: Training, steps: int) -> None:
    """What the loop of the engine does between two log rows, and the row's reading."""
    update = training.update
    for _ in range(steps):
        training.step += 1
        update.begin_step(training.step, False)
        update.window.add(training.model.training_step(training.loader, update))
    update.window.read()
    update.window.clear()


def measure(workload: Workload, size: Size, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a variant: median milliseconds of a step, and its ratio to the peer's."""
    pictures = size.pictures()
    loops = {name: workload.loop(size, pictures, way) for name, way in WAYS.items()}
    trainings = {p: engine(workload, size, pictures, p) for p in workload.precisions}
    variants: dict[str, Callable[[int], None]] = {
        **{name: partial(repeat, loop) for name, loop in loops.items()},
        **{name: partial(train, training) for name, training in trainings.items()},
    }
    blocks, flops, times = {}, {}, {name: [] for name in variants}
    for name, run in variants.items():
        with native_kernels(), Flops() as counter:
            run(1)
        flops[name] = counter.total
        run(2)
        blocks[name] = max(1, round(seconds / _timed(run, 1)))
    products = []
    for _ in range(rounds):
        products.append(peak(torch.bfloat16, 1024 if seconds else 64, 0.1 * seconds))
        for name, run in variants.items():
            times[name].append(_timed(run, blocks[name]) / blocks[name])
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        name: [plain / own for plain, own in zip(times["peer"], values, strict=True)]
        for name, values in times.items()
    }
    return [
        {
            "workload": workload.name,
            "variant": name,
            "ms": 1e3 * median,
            "ms_fastest": 1e3 * min(times[name]),
            "steps_a_round": blocks[name],
            "images_per_second": size.batch / median,
            "ratio": statistics.median(ratios[name]),
            "goal": workload.goals.get(name),
            "gflop": flops[name] / 1e9,
            "gflop_per_second": flops[name] / 1e9 / median,
            "rounds": [
                {"bf16_product_gflop_per_second": round(product), "ratio": round(ratio, 3)}
                for product, ratio in zip(products, ratios[name], strict=True)
            ],
        }
        for name, median in medians.items()
    ]


def repeat(loop: Any, steps: int) -> None:
    """Steps of a loop that is not genctl's."""
    for _ in range(steps):
        loop.step()


class Flops(TorchDispatchMode):
    """Counts matrix products and convolutions; torch's own counter cannot see penalties."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


@contextmanager
def native_kernels() -> Iterator[None]:
    """Every convolution torch's own, so that its work is counted."""
    chooses = Geometry.by_product
    Geometry.by_product = lambda self, what, dtype: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        Geometry.by_product = chooses  # type: ignore[method-assign]


def _timed(run: Callable[[int], None], steps: int) -> float:
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def peaks(edges: tuple[int, ...], seconds: float = 0.5) -> dict[str, float]:
    """GFLOP/s of the fastest square matrix product in each precision."""
    return {
        name: max(peak(dtype, edge, seconds) for edge in edges)
        for name, dtype in PRECISIONS.items()
    }


def peak(dtype: torch.dtype, edge: int, seconds: float) -> float:
    """GFLOP/s of a square matrix product, the fastest of those made in so many seconds."""
    a, b = torch.randn(2, edge, edge).to(dtype)
    torch.mm(a, b)
    times, began = [], time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        times.append(_timed(lambda _: torch.mm(a, b), 1))
    return 2e-9 * edge**3 / min(times)


# --- layers -------------------------------------------------------------------------------------
def layer(inputs: int, outputs: int, edge: int, kernel: int = 4, stride: int = 2) -> Geometry:
    """A layer that a network here has, by its channels and the edge of what it gives."""
    padding = (kernel - 1) // 2 if edge > 1 else 0
    size = stride * edge if edge > 1 else kernel
    pairs = ((n, n) for n in (size, edge, kernel, stride, padding))
    return Geometry(inputs, outputs, *pairs)


LAYERS = [
    layer(3, 64, 32),
    layer(64, 128, 16),
    layer(128, 256, 8),
    layer(256, 512, 4),
    layer(512, 1, 1, stride=1),  # the score
    layer(512, 100, 1, stride=1),  # the generator's first
    layer(64, 128, 7),  # 28×28
    layer(64, 128, 4),
    layer(128, 256, 4),  # 32×32
    layer(64, 128, 8),
    layer(128, 256, 8, kernel=5),  # the paper's kernel
    layer(256, 512, 4, kernel=5),
    layer(128, 128, 8, kernel=3, stride=1),  # BEGAN
    layer(384, 384, 8, kernel=3, stride=1),
]


def layers(batch: int, dtype: torch.dtype, rounds: int, table: list[Geometry]) -> list[dict]:
    """Median milliseconds of each direction, natively and as a product, and what is chosen."""
    rows = []
    for g in table:
        x = _laid_out((batch, g.inputs, *g.size), dtype)
        y = _laid_out((batch, g.outputs, *g.positions), dtype)
        w = _laid_out((g.outputs, g.inputs, *g.kernel), dtype)
        operands = {"gather": (x, w), "scatter": (y, w), "correlate": (x, y)}
        row: dict[str, Any] = {
            "layer": f"{g.inputs}→{g.outputs}, {g.kernel[0]}×{g.kernel[0]}/{g.stride[0]}, "
            f"to {g.positions[0]} px",
            "batch": batch,
            "dtype": str(dtype).removeprefix("torch."),
        }
        for name in MAPS:
            ways = gemm_convolution._NATIVE[name], gemm_convolution._PRODUCTS[name]
            times: tuple[list[float], list[float]] = ([], [])
            with torch.no_grad():
                for _ in range(rounds + 1):
                    for way, found in zip(ways, times, strict=True):
                        found.append(
                            _timed(lambda _, way=way: way(*operands[name], g), 1)  # noqa: B023
                        )
            native, product = (1e3 * statistics.median(found[1:]) for found in times)
            row[name] = {
                "native_ms": native,
                "product_ms": product,
                "ratio": native / product,
                "chosen": "product" if g.by_product(name, dtype) else "native",
            }
        rows.append(row)
    return rows


def _laid_out(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


# --- the command --------------------------------------------------------------------------------
def run(only: list[str], rounds: int, seconds: float, smoke: bool) -> dict[str, Any]:
    """The record, printed as it grows."""
    record: dict[str, Any] = {
        "benchmark": "training",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "gemm_gflop_per_second": (peaks((64,), 0.01) if smoke else peaks((1024, 2048, 4096))),
        "rows": [],
        "layers": [],
    }
    for workload in WORKLOADS:
        if workload.name in only:
            size = workload.size.small() if smoke else workload.size
            for row in measure(workload, size, rounds, seconds):
                kind = "bf16" if row["variant"] in ("bf16", "by hand") else "fp32"
                row["share_of_peak"] = (
                    row["gflop_per_second"] / record["gemm_gflop_per_second"][kind]
                )
                record["rows"].append(row)
                print(
                    f"{row['workload']:9} {row['variant']:7} {row['ms']:8.2f} ms "
                    f"{row['images_per_second']:9.1f} images/s {row['ratio']:5.2f}x "
                    f"{row['share_of_peak']:6.1%} of peak",
                    flush=True,
                )
    if "layers" in only:
        table, batches = (LAYERS[:1], [2]) if smoke else (LAYERS, [64, 128])
        for dtype in PRECISIONS.values():
            for batch in batches:
                for row in layers(batch, dtype, max(1, rounds), table):
                    record["layers"].append(row)
                    found = " ".join(
                        f"{name} {row[name]['native_ms']:7.2f}/{row[name]['product_ms']:7.2f}"
                        f"{'*' if row[name]['chosen'] == 'product' else ' '}"
                        for name in MAPS
                    )
                    print(f"{row['dtype']:8} {batch:3} {row['layer']:26} {found}", flush=True)
    return record


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    names = [*(workload.name for workload in WORKLOADS), "layers"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(names), help="comma-separated workloads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each variant in a round")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(arguments)
    only = options.only.split(",")
    if strange := set(only) - set(names):
        parser.error(f"unknown: {', '.join(sorted(strange))}; there are {', '.join(names)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    rounds, seconds = (1, 0.0) if options.smoke else (options.rounds, options.seconds)
    record = run(only, rounds, seconds, options.smoke)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


if __name__ == "__main__":
    main()
