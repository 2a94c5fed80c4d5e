"""How fast a preset trains here, against the plain loop of the same networks, interleaved."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from genctl.config.schema import RunConfig
from genctl.data.dataset import Dataset, drawn_once
from genctl.engine import precision
from genctl.engine.compilation import compile_as_decided
from genctl.engine.construction import begin, build
from genctl.engine.device import pick_device
from genctl.engine.fit import complete, open_data
from genctl.engine.state import Training
from genctl.errors import DataError, GateError, UsageError
from genctl.float32 import switches_kept, use_tf32
from genctl.report import gates, machine, plain_loop, roof
from genctl.report.anatomy import example_spec
from genctl.report.time_share import time_share
from genctl.types import Batch

GATED = (
    "steps_per_second",
    "images_per_second",
    "peak_memory_bytes",
    "flops_utilisation",
    "ratio_to_plain",
)
"""Numbers that ``--require`` can speak of."""

WARM_UP_STEPS = 3
ROUNDS = 7
"""About how many times each loop has its turn, an odd number for the sake of the median."""
LONGEST_TURN = 2.0
"""Seconds; shorter turns alternate more often, so a disturbance hits both loops."""
PICTURES = 1024
"""How many random pictures stand for data that is not there."""


def bench(
    config: RunConfig,
    data: str | None = None,
    *,
    device: str = "auto",
    seconds: float = 20.0,
    require: Sequence[str] = (),
    download: bool = False,
    strict: bool = False,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train for some seconds in genctl's loop and in the plain one, turn by turn.

    Args:
        config: a validated configuration.
        data: a data SPEC; by default the preset's own, or random pictures where that is not there.
        device: auto, cpu, cuda or mps.
        seconds: about how long to measure, once genctl's own loop is warm.
        require: gates, such as ``ratio_to_plain>=2.5``.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.
        report: told what happens.

    Returns:
        The object that ``genctl bench --json`` prints. An unmet gate is in its ``error``.

    Raises:
        GenctlError: of the kind that says what the user can do.
    """
    conditions = _gates(require)
    tell = report or (lambda text: None)
    where = pick_device(device)
    config = config.model_copy(update={"found": None})
    dataset, note = _data(config, data, download, strict)
    for text in (*dataset.warnings, *([note] if note else [])):
        tell(f"warning: {text}")
    config = complete(config, dataset, data, where)
    with _torch_as_it_was():
        measured = _measure(config, dataset, where, seconds, tell)
    found = {
        "preset": config.preset or config.model["kind"],
        "device": str(where),
        "precision": config.train.precision,
        **measured,
        "batch_size": config.train.batch_size,
        "data": "random" if note else config.data.spec,
        "shape": list(dataset.spec.shape),
        "machine": _machine(where),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "note": note,
    }
    numbers = {name: {"value": found[name]} for name in GATED}
    found["gates"] = gates.judge(conditions, numbers, None)
    unmet = [gate for gate in found["gates"] if not gate["met"]]
    if unmet:
        listed = ", ".join(f"{gate['require']} (found {gate['value']:.4g})" for gate in unmet)
        found["error"] = GateError("--require", f"not met: {listed}").as_dict()
    return found


def _measure(
    config: RunConfig,
    dataset: Dataset,
    device: torch.device,
    seconds: float,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    wait = roof.waiter(device)
    roof.forget_peak(device)
    training = build(config, dataset, device)
    begin(training, None)
    compiled, why = compile_as_decided(training, device)
    tell(why)

    def ours(steps: int) -> float:
        precision.configure(config.train.precision)
        return _timed(lambda: _engine_step(training), steps, wait)

    tell("warming up")
    pace = _warm_up(ours, math.inf if compiled else seconds / 5)
    deadline = time.perf_counter() + seconds
    memory, memory_is = roof.peak_memory(device)  # before there is a second model

    # Two workers are what scripts for a GPU use; without one they take the cores that train.
    workers = 2 if device.type == "cuda" else 0
    batches = plain_loop.plain_batches(dataset, config, device, workers)
    flops = _needed_flops(training, batches)
    model = plain_loop.plain_copy(training.model, config)
    update = plain_loop.PlainUpdate(model, config)

    def step_plainly() -> None:
        update.begin_step(update.step + 1)
        model.training_step(batches, update)

    def plain(steps: int) -> float:
        _configure_as_torch_ships()
        return _timed(step_plainly, steps, wait)

    plain_pace = _warm_up(plain, seconds / 5)
    precision.configure(config.train.precision)
    peak = roof.matrix_peak(device, config.train.precision, seconds / 20)
    tell("measuring, turn by turn")
    rounds = _alternate(ours, plain, (pace, plain_pace), deadline)
    precision.configure(config.train.precision)
    # Five batches of real examples where a critic makes five updates in a step.
    batch = training.loader.images / training.step
    _compare_updates(training, update, tell)
    if len(rounds) < 3:
        more = 2 * math.ceil(seconds)
        tell(f"warning: only {len(rounds)} turns fitted in; --seconds {more} tells more")
    share = time_share(training, wait, max(1, min(50, int(seconds / 20 / pace))))

    pace = statistics.median(mine for mine, _ in rounds)
    plain_pace = statistics.median(theirs for _, theirs in rounds)
    ratios = [theirs / mine for mine, theirs in rounds]
    return {
        "steps_per_second": 1.0 / pace,
        "images_per_second": batch / pace,
        "peak_memory_bytes": memory,
        "flops_utilisation": flops / pace / peak,
        "ratio_to_plain": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "rounds": len(rounds),
        "steps": training.step,
        "seconds": round(time.perf_counter() - deadline + seconds, 3),
        "compiled": compiled,
        "plain_steps_per_second": 1.0 / plain_pace,
        "plain_images_per_second": batch / plain_pace,
        "plain_loop": f"{plain_loop.DESCRIPTION} with {workers} workers",
        "peak_memory_is": memory_is,
        "flops_per_step": flops,
        "flops_per_second": flops / pace,
        "peak_flops_per_second": peak,
        "time_share": share,
    }


def _needed_flops(training: Training, batches: Iterator[Batch]) -> int:
    """Of one step, without what only a plain loop wastes: that would be no use of the machine."""
    model = plain_loop.plain_copy(training.model, training.config, shortcuts=True)
    update = plain_loop.PlainUpdate(model, training.config, freeze=True)
    return roof.step_flops(model, update, batches)


# --- turns --------------------------------------------------------------------------------------
def _engine_step(training: Training) -> None:
    """What the engine's loop does in a step, log rows included."""
    logging = (training.step + 1) % training.config.log.every == 0
    training.advance(logging)
    if logging:
        training.update.window.read()
        training.update.window.clear()


def _timed(step: Callable[[], None], steps: int, wait: Callable[[], None]) -> float:
    """Seconds a step."""
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - start) / steps


def _warm_up(turn: Callable[[int], float], seconds: float) -> float:
    """A few steps, one if a step takes long. Returns the last one's seconds."""
    began = time.perf_counter()
    for _ in range(WARM_UP_STEPS):
        pace = turn(1)
        if time.perf_counter() - began > seconds:
            break
    return pace


def _alternate(
    ours: Callable[[int], float],
    plain: Callable[[int], float],
    paces: tuple[float, float],
    deadline: float,
) -> list[tuple[float, float]]:
    """Seconds a step of both loops in turn until the deadline, at least once."""
    turn = min(LONGEST_TURN, (deadline - time.perf_counter()) / (2 * ROUNDS))
    steps = [max(1, int(turn / pace)) for pace in paces]
    rounds: list[tuple[float, float]] = []
    took = 0.0
    while not rounds or time.perf_counter() + took <= deadline:
        start = time.perf_counter()
        rounds.append((ours(steps[0]), plain(steps[1])))
        took = time.perf_counter() - start
    return rounds


def _compare_updates(
    training: Training, plain: plain_loop.PlainUpdate, tell: Callable[[str], None]
) -> None:
    """Say so if the two loops were given different work: by a schedule, or by numbers gone bad."""
    skipped = sum(int(player.skipped[0]) for player in training.update.players.values())
    if skipped:
        tell(
            f"warning: {skipped:,} updates were skipped, their gradients not finite: no fair ratio"
        )
    mine = sum(player.count for player in training.update.players.values()) / training.step
    theirs = sum(plain.counts.values()) / plain.step
    if abs(mine - theirs) > 0.01 * theirs:
        tell(f"warning: {mine:.2f} updates a step here, {theirs:.2f} in the plain loop")


def _configure_as_torch_ships() -> None:
    """Float32 matrix products in full, convolutions on CUDA in TF32, as a script finds torch."""
    use_tf32(False, convolutions=True)


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Give the process-wide switches back."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with switches_kept():
            yield
    finally:
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)


# --- what is measured, and on what --------------------------------------------------------------
def _gates(require: Sequence[str]) -> list[gates.Gate]:
    found = [gates.parse(text) for text in require]
    gates.check_names(found, {name: ["value"] for name in GATED})
    for gate in found:
        if gate.relative:
            raise UsageError(f"--require {gate.text!r}", "bench has no baseline", "give a number")
    return found


def _data(
    config: RunConfig, spec: str | None, download: bool, strict: bool
) -> tuple[Dataset, str | None]:
    """The data, and a note where random pictures take its place."""
    if spec is None and config.data.spec is None:
        return random_pictures(config), "random pictures: the preset names no data; give --data"
    try:
        return open_data(config, spec, download=download, strict=strict), None
    except DataError as error:
        if spec is not None or strict:
            raise
        return random_pictures(config), f"random pictures, since {error}; give --data"


def random_pictures(config: RunConfig) -> Dataset:
    """Noise of the shape that the preset is meant for."""
    spec = example_spec(config)
    n = max(PICTURES, 2 * config.train.batch_size)
    generator = torch.Generator().manual_seed(config.train.seed)
    examples = torch.randint(0, 256, (n, *spec.shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, spec.classes, (n,), generator=generator) if spec.classes else None
    binarise = config.data.binarise
    noise = Dataset(
        spec,
        examples,
        labels,
        fingerprint="random",
        source="random pictures",
        counts={"train": n, "test": 0},
        binarise=binarise,
    )
    return drawn_once(noise) if binarise == "fixed" else noise


def _machine(device: torch.device) -> str:
    """The device's name, as its maker gave it."""
    names = {found["device"]: str(found["name"]) for found in machine.devices()}
    return names.get(str(device)) or names.get(f"{device}:0") or str(device)
