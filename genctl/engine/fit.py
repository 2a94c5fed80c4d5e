"""``fit``: the one loop that trains every model."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genctl import registry
from genctl.config.load import with_overrides
from genctl.config.schema import Found, RunConfig, seconds_of
from genctl.contracts import GenerativeModel
from genctl.data.dataset import Dataset, open_dataset
from genctl.data.loader import Loader
from genctl.engine import checkpoint, distributed, precision, signals
from genctl.engine.averaging import Average
from genctl.engine.compilation import compile_networks
from genctl.engine.device import pick_device
from genctl.engine.log import MetricsFile
from genctl.engine.preview import write_preview
from genctl.engine.progress import Reporter, Silent
from genctl.engine.run_directory import RunDirectory
from genctl.engine.schedules import Plateau
from genctl.engine.state import Training, restore, snapshot
from genctl.engine.update import Updater
from genctl.errors import ConfigError, DataError, NonFiniteError, UsageError
from genctl.randomness import RandomStream, seed_of

MOST_SKIPS = 20
"""Non-finite gradients in a row after which a run is given up."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended. ``last`` is the newest row of ``metrics.jsonl``."""

    run: Path
    step: int
    images: int
    seconds: float
    stopped_by: str  # steps | time | signal | nonfinite
    last: Mapping[str, Any]


def fit(
    config: RunConfig,
    data: str | Dataset | None = None,
    out: str | Path = "runs/run",
    *,
    device: str = "auto",
    resume: str | None = None,
    init: str | Path | None = None,
    max_seconds: float | None = None,
    download: bool = False,
    strict_data: bool = False,
    report: Reporter | None = None,
) -> FitResult:
    """Train, from the start or from a checkpoint.

    Args:
        config: a validated configuration.
        data: a data SPEC or an open data set; by default ``config.data.spec``.
        out: the run directory.
        device: auto, cpu, cuda or mps.
        resume: go on from this checkpoint of ``out``: ``latest`` or a step.
        init: take the initial weights from another run.
        max_seconds: stop, with a checkpoint, this long after the call.
        download: let torchvision download a named data set.
        strict_data: refuse data with any broken file.
        report: told about progress; silent by default.

    Raises:
        GenctlError: of the kind that says what the user can do.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    report = report or Silent()
    where = pick_device(device)
    directory = RunDirectory(Path(out))
    if resume is None:
        directory.refuse_if_taken()
    lock = directory.lock() if directory.exists() else None
    try:
        dataset = (
            data
            if isinstance(data, Dataset)
            else open_data(config, data, download=download, strict=strict_data)
        )
        for warning in dataset.warnings:
            report.note(f"warning: {warning}")
        config = complete(config, dataset, data if isinstance(data, str) else None, where)
        training = build(config, dataset, where)
        if resume is None:
            directory.create(config)
            lock = lock or directory.lock()
        if config.train.compile:
            report.note(f"torch.compile: {', '.join(compile_networks(training.model))}")
        metrics = MetricsFile(directory.metrics_file)
        if resume is not None and checkpoint.steps(directory.checkpoints):
            take_up(training, directory, metrics, resume)
            report.note(f"going on from step {training.step}")
        else:
            begin(training, init)
            checkpoint.write(directory.checkpoints, snapshot(training, 0.0))
        report.note(f"{describe(config, where)}; {dataset.source}")
        return _loop(training, directory, metrics, report, deadline)
    finally:
        report.close()
        if lock is not None:
            lock.close()


def open_data(
    config: RunConfig, spec: str | None, *, download: bool = False, strict: bool = False
) -> Dataset:
    """The training split of a SPEC, prepared as the configuration says.

    Raises:
        UsageError: neither the call nor the preset names data.
    """
    spec = spec or config.data.spec
    if spec is None:
        raise UsageError("data", "none given, and the preset names none", "--data SPEC")
    return open_dataset(
        spec,
        size=config.data.size,
        crop=config.data.crop,
        holdout=config.data.holdout,
        binarise=config.data.binarise,
        download=download,
        strict=strict,
    )


def complete(
    config: RunConfig, dataset: Dataset, spec: str | None, device: torch.device
) -> RunConfig:
    """Write into the configuration what was found: the data's facts and the precision.

    Raises:
        ConfigError: the run was begun on other data.
    """
    facts = dataset.spec
    found = Found(
        kind=facts.kind,
        shape=list(facts.shape),
        classes=facts.classes,
        class_names=list(facts.class_names),
        levels=facts.levels,
        examples=len(dataset),
        fingerprint=dataset.fingerprint,
    )
    if config.found is not None and config.found != found:
        raise ConfigError(
            spec or config.data.spec or "data",
            [
                f"not the data this run was trained on: found {found.examples} examples "
                f"{tuple(found.shape)} {found.fingerprint[:12]}, expected {config.found.examples} "
                f"{tuple(config.found.shape)} {config.found.fingerprint[:12]}"
            ],
            "give the same data, or start a new run with --init",
        )
    changes = {"train.precision": precision.pick_precision(config.train.precision, device)}
    if spec is not None:
        changes["data.spec"] = spec
    return with_overrides(config, changes).model_copy(update={"found": found})


def build(config: RunConfig, dataset: Dataset, device: torch.device) -> Training:
    """Model, loader, averages and optimisers, seeded, before any step."""
    precision.configure(config.train.precision)
    seed = config.train.seed
    torch.manual_seed(seed_of(seed, "global"))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    model = build_model(config).to(device)
    check_players(config, model)
    model.train()
    ranks, rank = distributed.world_size(), distributed.rank()
    loader = Loader(
        dataset,
        batch_size=config.train.batch_size,
        seed=seed,
        device=device,
        flip=config.data.flip,
        crop=config.data.crop,
        binarise=config.data.binarise,
        rank=rank,
        world=ranks,
    )
    average = Average(model, config.ema)
    update = Updater(model, config, average, config.train.precision, images=lambda: loader.images)
    return Training(config, model, loader, average, update)


def build_model(config: RunConfig) -> GenerativeModel:
    """The model of a configuration whose data has been found; weights seeded."""
    assert config.found is not None
    torch.manual_seed(seed_of(config.train.seed, "weights"))
    model = registry.factory("model", config.model)(config.found.spec())
    assert isinstance(model, GenerativeModel)
    return model


def check_players(config: RunConfig, model: GenerativeModel) -> None:
    """Every player of the model needs an optimiser, and every optimiser a player.

    Raises:
        ConfigError: naming those that are missing or unknown.
    """
    players = set(model.players)
    missing = [f"optim.{p}: missing" for p in sorted(players - set(config.optim))]
    unknown = [
        f"optim.{p}: no such player{registry.suggest(p, sorted(players))}"
        for p in sorted(set(config.optim) - players)
    ]
    if missing or unknown:
        raise ConfigError(config.preset or "config", missing + unknown, "one optimiser a player")


def begin(training: Training, init: str | Path | None) -> None:
    """Data-dependent or borrowed initial weights; equal on every rank; averages start there."""
    model, config = training.model, training.config
    if init is not None:
        load_initial_weights(model, init)
    elif distributed.is_main():
        rng = RandomStream(config.train.seed, "initialise", device=training.update.device)
        with torch.no_grad():
            model.initialise(training.loader, rng)
        training.loader.position = 0
    distributed.broadcast(model)
    training.average.load_state({key: value.clone() for key, value in model.state_dict().items()})


def load_initial_weights(model: GenerativeModel, address: str | Path) -> None:
    """Copy the weights of another run's checkpoint.

    Raises:
        DataError: they do not fit.
    """
    from genctl.engine.run import read_checkpoint

    found = read_checkpoint(address)
    weights = {**found.weights, **found.averaged}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"--init {address}", f"does not fit: {reason}", "same model, same shapes"
        ) from None


def take_up(training: Training, directory: RunDirectory, metrics: MetricsFile, at: str) -> None:
    """Restore a checkpoint and cut the log back to it."""
    place = checkpoint.locate(directory.checkpoints, at)
    restore(training, checkpoint.read(place))
    checkpoint.drop_after(directory.checkpoints, training.step)
    metrics.cut(training.step, drop=training.final_row)
    training.final_row = None


def describe(config: RunConfig, device: torch.device) -> str:
    """One line: what is trained where and how."""
    return f"{config.preset or config.model['kind']} on {device} in {config.train.precision}"


def _loop(
    training: Training,
    directory: RunDirectory,
    metrics: MetricsFile,
    report: Reporter,
    deadline: float | None,
) -> FitResult:
    config, update, model = training.config, training.update, training.model
    steps, every = config.train.steps, config.log.every
    began = time.monotonic()
    cadence = config.train.checkpoint_every
    last_save, last_row_at, images_at = began, began, training.loader.images
    saved_step, row = training.step, {}
    stopped_by = "steps"

    def seconds() -> float:
        return training.seconds_before + time.monotonic() - began

    def save() -> None:
        nonlocal last_save, saved_step
        if distributed.is_main() and saved_step != training.step:
            checkpoint.write(directory.checkpoints, snapshot(training, seconds()))
            checkpoint.prune(directory.checkpoints, config.train.keep)
        last_save, saved_step = time.monotonic(), training.step

    report.start(training.step, steps)
    with signals.listening() as requests:
        while training.step < steps:
            if requests.stop or (deadline is not None and time.monotonic() > deadline):
                stopped_by = "signal" if requests.stop else "time"
                break
            step = training.step + 1
            logging = step == 1 or step % every == 0 or step == steps
            update.begin_step(step, logging)
            update.window.add(model.training_step(training.loader, update))
            training.step = step
            report.advance(step)
            if logging:
                row = _row(training, seconds())
                metrics.append(row)
                now = time.monotonic()
                rate = (training.loader.images - images_at) / max(1e-9, now - last_row_at)
                report.row(row, rate)
                last_row_at, images_at = now, training.loader.images
                _observe(training, row)
                trouble = _trouble(training)
                if trouble:
                    report.note(f"stopped at step {step}: {trouble}")
                    stopped_by = "nonfinite"
                    break
                if step == 1 or step % every == 0:
                    update.window.clear()
                else:  # a last row between two intervals; going on must not lose its window
                    training.final_row = step
            preview = config.log.preview_every
            if preview and distributed.is_main() and (step % preview == 0 or step == steps):
                write_preview(training, directory.samples)
            due = (
                step % cadence == 0
                if isinstance(cadence, int)
                else time.monotonic() - last_save > seconds_of(cadence)
            )
            if due or requests.save:
                requests.save = False
                save()
        if stopped_by != "nonfinite":
            save()
    return FitResult(
        directory.path, training.step, training.loader.images, seconds(), stopped_by, row
    )


def _row(training: Training, seconds: float) -> dict[str, Any]:
    """One row of ``metrics.jsonl``; keys that depend on the clock begin with ``seconds``."""
    row: dict[str, Any] = {
        "step": training.step,
        "images": training.loader.images,
        "seconds": round(seconds, 3),
        **training.update.window.read(),
    }
    for name, player in training.update.players.items():
        row[f"steps/{name}"] = player.count
        row[f"lr/{name}"] = player.rule.optimiser.param_groups[0]["lr"]
        skipped = int(player.skipped[0])
        if skipped:
            row[f"nonfinite/{name}"] = skipped
    return row


def _observe(training: Training, row: dict[str, Any]) -> None:
    """Let the plateau rules read the row; it is the same on every rank."""
    for player in training.update.players.values():
        if isinstance(player.rule.schedule, Plateau):
            player.rule.schedule.observe(row)


def _trouble(training: Training) -> str:
    """Why the run cannot go on, or nothing."""
    for name, player in training.update.players.items():
        if int(player.skipped[2]) >= MOST_SKIPS:
            return f"{MOST_SKIPS} non-finite gradients in a row for {name}"
    finite = torch.stack([torch.isfinite(p).all() for p in training.model.parameters()])
    if not bool(finite.all()):
        bad = [n for n, p in training.model.named_parameters() if not bool(torch.isfinite(p).all())]
        return f"non-finite weights: {bad[0]}"
    return ""


def require_finite(result: FitResult) -> None:
    """Turn a run that non-finite numbers stopped into the error a command exits with.

    Raises:
        NonFiniteError: it was stopped so.
    """
    if result.stopped_by == "nonfinite":
        raise NonFiniteError(
            str(result.run),
            f"non-finite numbers at step {result.step}",
            f"lower a learning rate or set train.clip; go on from the last good checkpoint with "
            f"--resume {result.run}",
        )
