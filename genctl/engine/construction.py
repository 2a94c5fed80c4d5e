"""From a configuration and a data set to a training ready for its first step, or its next."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genctl import registry
from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel
from genctl.data.dataset import Dataset
from genctl.data.loader import Loader
from genctl.engine import checkpoint, distributed, precision
from genctl.engine.averaging import Average
from genctl.engine.belonging import require_same
from genctl.engine.log import MetricsFile
from genctl.engine.run_directory import RunDirectory, split_address
from genctl.engine.state import Training, restore
from genctl.engine.update import Updater
from genctl.errors import ConfigError, DataError
from genctl.networks.layers.virtual_batch_norm import require_references
from genctl.randomness import RandomStream, seed_of


def build(
    config: RunConfig,
    dataset: Dataset,
    device: torch.device,
    held_out: Dataset | None = None,
    resident: bool | None = None,
) -> Training:
    """Model, loaders, averages and optimisers, seeded, before any step.

    Args:
        config: with the data's facts and a resolved precision.
        dataset: what is trained on.
        device: where.
        held_out: what the log is told of beside it.
        resident: keep the examples on the device; None where they fit.
    """
    precision.configure(config.train.precision)
    torch.use_deterministic_algorithms(config.train.deterministic)
    seed = config.train.seed
    torch.manual_seed(seed_of(seed, "global"))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    model = build_model(config).to(device)
    check_players(config, model)
    model.train()
    ranks, rank = distributed.world_size(), distributed.rank()
    if rank:  # equal weights, but dropout of its own
        torch.manual_seed(seed_of(seed, "global", rank))
    batches = functools.partial(
        Loader,
        batch_size=config.train.batch_size,
        seed=seed,
        device=device,
        crop=config.data.crop,
        binarise=config.data.binarise,
        rank=rank,
        world=ranks,
        resident=resident,
    )
    loader = batches(dataset, flip=config.data.flip)
    average = Average(model, config.ema)
    update = Updater(model, config, average, config.train.precision, images=lambda: loader.images)
    beside = None if held_out is None else batches(held_out)
    return Training(config, model, loader, average, update, held_out=beside)


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
    """Data-dependent and borrowed initial weights; equal on every rank; averages start there.

    Every rank initialises from the whole global batches, as a single one would, so collectives
    inside a layer find their partners; rank 0's result is what counts.
    """
    model, config = training.model, training.config
    rng = RandomStream(config.train.seed, "initialise", device=training.update.device)
    with torch.no_grad():
        model.initialise(training.loader.whole(), rng)
    if init is not None:
        distributed.together(lambda: load_initial_weights(model, init))
    require_references(model)
    distributed.broadcast(model)
    training.average.load_state(
        {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    )


def load_initial_weights(model: GenerativeModel, address: str | Path) -> None:
    """Copy what the players of another run's checkpoint have learned.

    What else a model keeps belongs to its own run: labelled examples, past fakes, balances.

    Raises:
        DataError: they do not fit.
    """
    found = read_checkpoint(address)
    places = tuple(f"{name}." for modules in model.players.values() for name in modules)
    other = {**found.weights, **found.averaged}
    weights = {key: value for key, value in other.items() if key.startswith(places)}
    missing = [key for key in model.state_dict() if key.startswith(places) and key not in weights]
    try:
        strange = missing or model.load_state_dict(weights, strict=False).unexpected_keys
        reason = f"{strange[0]} is not in both" if strange else ""
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
    if reason:
        remedy = "same networks, same shapes"
        raise DataError(f"--init {address}", f"does not fit: {reason}", remedy)


def to_go_on_with(
    config: RunConfig, directory: RunDirectory, at: str | None
) -> checkpoint.Checkpoint:
    """The checkpoint of a run that is to go on by a configuration, made sure to be its own.

    Raises:
        ConfigError: the run was trained by another configuration.
        DataError: no such checkpoint, a damaged one, or that of another model.
    """
    found = checkpoint.find(directory.checkpoints, at)
    require_same(config, found, directory.path)
    return found


def take_up(
    training: Training,
    directory: RunDirectory,
    metrics: MetricsFile,
    found: checkpoint.Checkpoint,
) -> list[str]:
    """Restore a checkpoint, cut the log back to it, and drop the later checkpoints.

    Every rank has read it, so all machines must see the run directory; rank 0 alone writes.

    Returns:
        What a user should know of it.
    """
    distributed.together(lambda: restore(training, found))
    notes = [f"going on from step {training.step}"]
    ranks, before = distributed.world_size(), found.state.get("ranks", 1)
    if ranks != before:
        share = training.config.train.batch_size // ranks
        notes.append(f"processes: {ranks}, before {before}; each takes {share} of a batch")

    goes_on = training.step < training.config.train.steps

    def cut() -> None:
        if not goes_on:  # nothing is trained, so nothing is in the way
            return
        dropped = checkpoint.drop_after(directory.checkpoints, training.step)
        metrics.cut(training.step, drop=training.final_row)
        if dropped:
            notes.append(f"dropped the later checkpoints {', '.join(map(str, dropped))}")

    distributed.on_main(cut)
    if goes_on:
        training.final_row = None
    if distributed.rank():
        seed = training.config.train.seed
        torch.manual_seed(seed_of(seed, "global", distributed.rank(), training.step))
    return notes


def read_checkpoint(address: str | Path) -> checkpoint.Checkpoint:
    """The checkpoint at ``RUN``, ``RUN@step`` or ``RUN@best``.

    Raises:
        DataError: no such run or step, or a damaged checkpoint.
    """
    path, at = split_address(address)
    directory = RunDirectory(path)
    directory.config()
    return checkpoint.find(directory.checkpoints, at)
