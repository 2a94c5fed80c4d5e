"""``fit``: train a configuration on data into a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from genctl.config.load import with_overrides
from genctl.config.schema import NAMED_FEATURES, Found, RunConfig
from genctl.data.dataset import Dataset, open_dataset
from genctl.data.spec import parse_spec
from genctl.engine import checkpoint, distributed, precision
from genctl.engine.claim import claim_next_free
from genctl.engine.clock import Clock
from genctl.engine.compilation import compile_as_decided
from genctl.engine.construction import begin, build, take_up, to_go_on_with
from genctl.engine.device import pick_device
from genctl.engine.ending import Ending, record
from genctl.engine.generators import undisturbed
from genctl.engine.held_out import open_held_out
from genctl.engine.log import MetricsFile
from genctl.engine.loop import FitResult, run_loop
from genctl.engine.memory import Trial, explained, fitted, is_out_of_memory, trial_of
from genctl.engine.pointers import mend, unpoint
from genctl.engine.progress import Reporter, Silent
from genctl.engine.run import Run
from genctl.engine.run_directory import RunDirectory, split_address
from genctl.engine.scoring import Aim, Scorer, Scoring
from genctl.engine.state import Training, snapshot
from genctl.errors import ConfigError, UsageError


def fit(
    config: RunConfig,
    data: str | Dataset | None = None,
    out: str | Path | None = "runs/run",
    *,
    device: str = "auto",
    resume: str | None = None,
    init: str | Path | None = None,
    max_seconds: float | None = None,
    download: bool = False,
    strict_data: bool = False,
    report: Reporter | None = None,
    scorer: Scorer | None = None,
) -> FitResult:
    """Train, from the start or from a checkpoint.

    Args:
        config: a validated configuration.
        data: a data SPEC or an open data set; by default ``config.data.spec``.
        out: the run directory; None: ``runs/<preset>-<n>``, the first that is free.
        device: auto, cpu, cuda or mps.
        resume: go on from this checkpoint of ``out``: ``latest``, ``best`` or a step.
        init: take the initial weights from another run.
        max_seconds: stop, with a checkpoint, this long after the call.
        download: let torchvision download a named data set.
        strict_data: refuse data with any broken file.
        report: told about progress; silent by default.
        scorer: takes the scores on the way that ``evaluate.every`` asks for; measures live in a
            room above, so ``genctl.fit`` brings it.

    Raises:
        GenctlError: of the kind that says what the user can do.
    """
    clock = Clock()
    with distributed.processes(device), ExitStack() as at_the_end:
        report = (report if distributed.is_main() else None) or Silent()
        at_the_end.callback(report.close)
        where = distributed.together(lambda: pick_device(device))
        place = Path(out) if out is not None else None
        note, new = report.note, resume is None
        directory = RunDirectory(
            Path(distributed.from_main(lambda: _claim(place, config, new, at_the_end, note)))
        )
        if isinstance(data, Dataset):
            dataset, spec, held_out = data, None, None
        else:
            spec = data
            dataset, held_out = distributed.together(
                lambda: open_parts(config, spec, download=download, strict=strict_data)
            )
        for warning in dataset.warnings:
            report.note(f"warning: {warning}")
        distributed.require_equal("the data", dataset.fingerprint, "give all processes the same")
        config = complete(config, dataset, spec, where)
        trial = trial_of(config, dataset, where)
        if resume is None and config.train.on_out_of_memory == "halve":
            config = _with_a_batch_that_fits(config, trial, report)
        found = None
        if resume is not None:
            distributed.on_main(lambda: mend(directory.checkpoints))
            if resume != "latest" or checkpoint.steps(directory.checkpoints):
                found = distributed.together(lambda: to_go_on_with(config, directory, resume))
        training = distributed.together(lambda: build(config, dataset, where, held_out))
        for text in training.loader.notes:
            report.note(text)
        for text in training.model.warnings(len(dataset)):
            report.note(f"warning: {text}")
        aim = _aim(training, directory, scorer)
        report.note(compile_as_decided(training, where)[1])
        metrics = MetricsFile(directory.metrics_file)
        if found is not None:
            for text in take_up(training, directory, metrics, found):
                report.note(text)
            found = None  # its memory
            distributed.on_main(lambda: directory.write_config(config))
        else:
            begin(training, init)
            distributed.on_main(
                lambda: (
                    _create(directory, training, place is None, at_the_end, note)
                    if resume is None
                    else _create_again(directory, training, metrics, note)
                )
            )
            distributed.together(directory.require_seen)
        scoring = None
        if scorer is not None and config.evaluate.every is not None:
            scoring = Scoring(scorer, aim, config.evaluate, directory, metrics, report)
            scoring.take_up(training.step, clock.seconds())
        report.note(f"{describe(config, where)}; {dataset.source}")
        distributed.on_main(lambda: record(directory, None))
        try:
            done = run_loop(training, directory, metrics, report, clock, max_seconds, scoring)
            distributed.on_main(lambda: record(directory, Ending(done.stopped_by, done.step)))
            return done
        except Exception as error:
            short = is_out_of_memory(error)
            if distributed.is_main():  # no word to the others: one of them may be gone
                record(directory, Ending("memory" if short else "error", training.step))
            if not short:
                raise
            del training  # its memory is needed to see which batch would fit
            raise explained(error, config, trial) from None


def _aim(training: Training, directory: RunDirectory, scorer: Scorer | None) -> Aim | None:
    """Make sure that the scores on the way can be taken, before the run is begun."""
    config, device = training.config, training.update.device
    if config.evaluate.every is None:
        return None
    if scorer is None:
        raise UsageError("evaluate.every", "nobody to take the scores", "train by `genctl.fit`")
    run = Run(directory.path, 0, config, training.model, "averaged", device, "fp32")
    with undisturbed(device):
        return distributed.together(lambda: scorer.prepare(run))


def _claim(
    place: Path | None,
    config: RunConfig,
    new: bool,
    at_the_end: ExitStack,
    note: Callable[[str], object],
) -> str:
    """Before any work: refuse a place that is taken, and a run that another process trains.

    Returns:
        The place.
    """
    if place is None:
        claim = claim_next_free(config.preset or "run", note=note)
        at_the_end.callback(claim.release)
        return str(claim.directory.path)
    directory = RunDirectory(place)
    if new:
        directory.refuse_if_taken()
    if directory.exists():
        at_the_end.enter_context(directory.lock(note))
    return str(place)


def _create(
    directory: RunDirectory,
    training: Training,
    claimed: bool,
    at_the_end: ExitStack,
    note: Callable[[str], object],
) -> None:
    """Begin the run's directory with its first checkpoint."""
    if not claimed:  # first: two processes may have found it free
        at_the_end.enter_context(directory.lock(note))
    directory.create(
        training.config, lambda: checkpoint.write(directory.checkpoints, snapshot(training, 0.0))
    )


def _create_again(
    directory: RunDirectory,
    training: Training,
    metrics: MetricsFile,
    note: Callable[[str], object],
) -> None:
    """Begin a run anew whose checkpoints someone removed; what it had logged is kept beside it."""
    kept = metrics.set_aside()
    where = f"; its former log is {kept}" if kept else ""
    note(
        f"warning: {directory.path} has no checkpoint, so it begins again, with weights of its "
        f"own{where}"
    )
    unpoint(directory.checkpoints, "best")
    directory.write_config(training.config)
    checkpoint.write(directory.checkpoints, snapshot(training, 0.0))


def _with_a_batch_that_fits(config: RunConfig, trial: Trial, report: Reporter) -> RunConfig:
    found = fitted(config, trial)
    asked, size = config.train.batch_size, found.train.batch_size
    if size != asked:
        report.note(f"memory: not enough for batches of {asked}: {size} instead")
    return found


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
        without=config.data.without,
        download=download,
        strict=strict,
    )


def open_parts(
    config: RunConfig, spec: str | None, *, download: bool = False, strict: bool = False
) -> tuple[Dataset, Dataset | None]:
    """What is trained on, and what the log is told of beside it."""
    dataset = open_data(config, spec, download=download, strict=strict)
    return dataset, open_held_out(config, spec, dataset)


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
    spec = spec or config.data.spec
    if spec is not None:
        changes["data.spec"] = parse_spec(spec).anywhere()
    features = config.evaluate.features
    if features not in NAMED_FEATURES and os.path.exists(split_address(features)[0]):
        changes["evaluate.features"] = os.path.abspath(features)
    return with_overrides(config, changes).model_copy(update={"found": found})


def describe(config: RunConfig, device: torch.device) -> str:
    """One line: what is trained where and how."""
    ranks = distributed.world_size()
    many = f" by {ranks} processes" if ranks > 1 else ""
    return f"{config.preset or config.model['kind']} on {device}{many} in {config.train.precision}"
