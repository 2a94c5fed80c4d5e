"""The one loop: steps, log rows, previews, checkpoints, and every way a run can end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genctl.config.schema import seconds_of
from genctl.engine import checkpoint, distributed, signals
from genctl.engine.clock import Clock
from genctl.engine.log import MetricsFile
from genctl.engine.preview import write_film, write_preview
from genctl.engine.progress import Reporter
from genctl.engine.run_directory import RunDirectory
from genctl.engine.schedules import Plateau
from genctl.engine.scoring import Scoring
from genctl.engine.state import Training, snapshot
from genctl.errors import NonFiniteError

RANKS_DIFFER = "use machines of one kind; on equal ones it is a bug, please report it"

MOST_SKIPS = 20
"""Non-finite gradients in a row after which a run is given up."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        run: its directory.
        step: steps done in all.
        images: real examples consumed.
        seconds: of training, by all processes of the run.
        stopped_by: ``steps``, ``time``, ``signal``, ``nonfinite``, or ``patience``: the score that
            ``evaluate.best`` names has not improved for ``evaluate.patience`` scores.
        last: the newest log row of ``metrics.jsonl``.
        best: step and number of the best score, where ``evaluate.best`` names one.
    """

    run: Path
    step: int
    images: int
    seconds: float
    stopped_by: str
    last: Mapping[str, Any]
    best: tuple[int, float] | None = None


def run_loop(
    training: Training,
    directory: RunDirectory,
    metrics: MetricsFile,
    report: Reporter,
    clock: Clock,
    max_seconds: float | None,
    scoring: Scoring | None = None,
) -> FitResult:
    """Train until the steps are done, the time is up, a signal comes, or something fails."""
    config, update, model = training.config, training.update, training.model
    steps, every = config.train.steps, config.log.every
    began = clock.seconds()
    cadence = config.train.checkpoint_every
    last_save, last_row_at, images_at = began, began, training.loader.images
    saved_step = training.step
    stopped_by, trouble = "steps", ""

    def seconds() -> float:
        return training.seconds_before + clock.seconds() - began

    def write(window: Mapping[str, Tensor]) -> None:
        metrics.sync()
        checkpoint.write(directory.checkpoints, snapshot(training, seconds(), window))
        checkpoint.prune(directory.checkpoints, config.train.keep)

    def save() -> str:
        """Keep the state of this step, unless it is no good: then say why."""
        nonlocal last_save, saved_step
        if trouble := _trouble(training):
            return trouble
        if saved_step != training.step:
            if distributed.world_size() > 1:
                state = [*model.parameters(), *model.buffers()]
                distributed.require_equal("the weights", distributed.digest(state), RANKS_DIFFER)
            window = update.window.sums_of_ranks()
            distributed.on_main(lambda: write(window))
        last_save, saved_step = clock.seconds(), training.step
        return ""

    def score() -> str:
        """Save, and only then score what was saved; the time it takes is none of training."""
        nonlocal last_row_at
        now = clock.seconds()
        if scoring is None or (trouble := save()):
            return trouble if scoring else ""
        scoring.take(training, seconds(), now)
        last_row_at += clock.seconds() - now
        return ""

    report.start(training.step, steps)
    with signals.listening() as requests:
        newest = training.step < steps or training.step == checkpoint.newest(directory.checkpoints)
        # Killed while it was scored, say; what comes before the end of a log is not added to it.
        if scoring is not None and newest and scoring.owed(training.step):
            trouble = score()
        while training.step < steps and not trouble:
            if scoring is not None and scoring.exhausted():
                stopped_by = "patience"
                break
            now = clock.seconds()
            late = max_seconds is not None and now > max_seconds
            due = isinstance(cadence, str) and now - last_save > seconds_of(cadence)
            waited = scoring is not None and scoring.late(training.step, now)
            stop, late, asked, waited = distributed.any_of(
                requests.stop, late, requests.save or due, waited
            )
            if asked:
                requests.save = False
                trouble = save()
            if stop or late or trouble:
                stopped_by = "signal" if stop else "time"
                break
            if waited and ((trouble := score()) or (scoring and scoring.exhausted())):
                continue
            step = training.step + 1
            logging = step == 1 or step % every == 0 or step == steps
            training.advance(logging)
            report.advance(step)
            if logging:
                row = _row(training, seconds)
                if distributed.is_main():
                    metrics.append(row)
                now = clock.seconds()
                rate = (training.loader.images - images_at) / max(1e-9, now - last_row_at)
                report.row({**row, **scoring.newest} if scoring else row, rate)
                last_row_at, images_at = now, training.loader.images
                if step == 1 or step % every == 0:
                    _observe(training, row)
                    update.window.clear()
                else:  # a last row between two intervals: going on must be as if it had not been
                    update.window.drop_rare()
                    training.final_row = step
                if trouble := _trouble(training):
                    break
            preview = config.log.preview_every
            if preview and distributed.is_main() and (step % preview == 0 or step == steps):
                _draw(lambda: write_preview(training, directory.samples), report)
            if isinstance(cadence, int) and step % cadence == 0:
                trouble = save()
            if not trouble and scoring is not None and scoring.owed(step):
                trouble = score()
        if trouble := trouble or save():
            report.note(f"stopped at step {training.step}: {trouble}")
            stopped_by = "nonfinite"
    if config.log.preview_every and distributed.is_main():
        _draw(lambda: write_film(training, directory.samples), report)
    images = training.loader.images
    last = metrics.last() if distributed.is_main() else {}
    best = scoring.best() if scoring else None
    return FitResult(directory.path, training.step, images, seconds(), stopped_by, last, best)


def _draw(picture: Callable[[], object], report: Reporter) -> None:
    """A picture is never worth a run."""
    try:
        picture()
    except OSError as error:
        report.note(f"warning: no preview: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - and the next run from here would fail there again
        report.note(f"warning: no preview: {type(error).__name__}: {error}")


def _row(training: Training, seconds: Callable[[], float]) -> dict[str, Any]:
    """One row of ``metrics.jsonl``; keys that depend on the clock begin with ``seconds``."""
    window = training.update.window.read()  # which waits for the device; then the time is right
    row: dict[str, Any] = {
        "step": training.step,
        "images": training.loader.images,
        "seconds": round(seconds(), 3),
        **window,
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
    state = {
        key: value
        for key, value in training.model.state_dict().items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    finite = torch.stack([torch.isfinite(value).all() for value in state.values()]).tolist()
    bad = [name for name, good in zip(state, finite, strict=True) if not good]
    return f"non-finite weights: {bad[0]}" if bad else ""


def require_finite(result: FitResult) -> None:
    """Turn a run that non-finite numbers stopped into the error a command exits with.

    Raises:
        NonFiniteError: it was stopped so.
    """
    if result.stopped_by == "nonfinite":
        raise NonFiniteError(
            str(result.run),
            f"non-finite numbers at step {result.step}",
            "a new run with a lower learning rate or train.clip, "
            f"which may begin with the last good weights of this one: --init {result.run}",
        )
