"""Scores while training: when they are taken, which was the best, and whether to go on.

What a score is, a room above knows: it hands in a ``Scorer``. The loop writes a checkpoint first,
and it is scored from the disk, as ``genctl evaluate RUN@step`` would: a score can cost the run
nothing, and can be taken again. What was found is read back from ``metrics.jsonl``, which a resumed
run cuts to its checkpoint, so a run that was killed goes on with the same best and patience.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from genctl.config.schema import EvaluateConfig, seconds_of
from genctl.engine import checkpoint, distributed
from genctl.engine.generators import undisturbed
from genctl.engine.log import SCORED_AS, MetricsFile
from genctl.engine.pointers import point, pointed, unpoint
from genctl.engine.progress import Reporter
from genctl.engine.run import Run
from genctl.engine.run_directory import RunDirectory
from genctl.engine.state import Training
from genctl.errors import GenctlError

Scores = Mapping[str, float | None]
"""Numbers by their keys in ``metrics.jsonl``, ``evaluate/fd`` say; None where one is undefined."""


@dataclass(frozen=True)
class Aim:
    """The score that decides which checkpoint is the best.

    Attributes:
        key: of the score in its row.
        larger: whether more is better.
        how: on how many examples and in which features, if any; no others are compared with it.
    """

    key: str
    larger: bool
    how: str = ""

    def improves(self, value: float | None, best: float | None) -> bool:
        """Whether a score beats the best so far; an equal one does not."""
        if value is None or best is None:
            return value is not None
        return value > best if self.larger else value < best


class Scorer(Protocol):
    """Takes the measures of ``evaluate.measures``.

    Attributes:
        how: on how many examples and in which features, once it is prepared.
    """

    how: str

    def prepare(self, run: Run) -> Aim | None:
        """Before the first step: what ``evaluate.best`` means.

        Args:
            run: the model as it is now, not trained yet, and where its checkpoints will be.

        Raises:
            GenctlError: a measure that was asked for cannot be taken of this model and data.
        """

    def __call__(self, address: str) -> Scores:
        """Score a checkpoint, ``RUN@1000``; the same numbers on every rank.

        Raises:
            GenctlError: it cannot be scored.
        """


class Scoring:
    """The scores of one run.

    Args:
        scorer: takes them.
        aim: which of them decides; None: none does.
        config: how often, and how much patience.
        directory: the run.
        metrics: where the scores are written, and read back from.
        report: told about them.

    Attributes:
        history: step and deciding number of every score so far, the same on every rank.
        newest: the scores that were taken last, for the progress line.
    """

    def __init__(
        self,
        scorer: Scorer,
        aim: Aim | None,
        config: EvaluateConfig,
        directory: RunDirectory,
        metrics: MetricsFile,
        report: Reporter,
    ) -> None:
        self.scorer, self.aim, self.config = scorer, aim, config
        self.directory, self.metrics, self.report = directory, metrics, report
        self.newest: Scores = {}
        self.history: list[tuple[int, float | None]] = []
        self._at = 0.0
        self._told: int | None = None

    def take_up(self, step: int, now: float) -> None:
        """Read what earlier processes found up to a step, and point ``best`` at the best of it."""
        key, how = (self.aim.key, self.aim.how) if self.aim else ("", self.scorer.how)
        found = distributed.from_main(lambda: self.metrics.scores(key, how))
        self.history = [(taken, value) for taken, value in found if taken <= step]
        self._at = now
        distributed.on_main(self._point)

    def owed(self, step: int) -> bool:
        """Whether a step is one of those to be scored, and has not been."""
        every = self.config.every
        return isinstance(every, int) and step > 0 and step % every == 0 and not self.taken(step)

    def late(self, step: int, now: float) -> bool:
        """Whether the time between two scores is over."""
        every = self.config.every
        waited = isinstance(every, str) and now - self._at > seconds_of(every)
        return waited and step > 0 and not self.taken(step)

    def taken(self, step: int) -> bool:
        """Whether a step has been scored."""
        return any(found == step for found, _ in self.history)

    def best(self) -> tuple[int, float] | None:
        """Step and number of the best score; the first of equal ones."""
        best: tuple[int, float] | None = None
        for step, value in self.history if self.aim else ():
            if self.aim.improves(value, best[1] if best else None):  # type: ignore[union-attr]
                best = step, value  # type: ignore[assignment]
        return best

    def exhausted(self) -> bool:
        """Whether the best score is ``evaluate.patience`` scores old."""
        best, patience = self.best(), self.config.patience
        since = sum(best is None or step > best[0] for step, _ in self.history)
        return patience is not None and since >= patience

    def take(self, training: Training, seconds: float, now: float) -> None:
        """Score the checkpoint of this step, which has been written; a failure is only told.

        Args:
            training: the run, which finds itself as it was.
            seconds: of training so far, for the row.
            now: by the clock of ``late``.
        """
        self._at, step = now, training.step
        try:
            with undisturbed(training.update.device):
                scores = self.scorer(f"{self.directory.path}@{step}")
        except GenctlError as error:
            self.report.note(f"warning: no score at step {step}: {error}; {error.remedy}")
            return
        except Exception as error:
            # Whatever it is, the training is sound and its checkpoint written. With several
            # processes the others may not have met it, and would wait for this one for ever.
            if distributed.world_size() > 1:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.report.note(f"warning: no score at step {step}: {reason}")
            return
        self.newest = scores
        deciding = scores.get(self.aim.key) if self.aim else None
        self.history.append((step, distributed.from_main(lambda: deciding)))
        row = {"step": step, "images": training.loader.images, "seconds": round(seconds, 3)}
        how = {SCORED_AS: self.scorer.how}
        distributed.on_main(lambda: self._keep({**row, **how, **scores}))
        best = self.best()
        mark = " (best)" if best is not None and best[0] == step else ""
        self.report.note(f"step {step}: {in_words(scores)}{mark}")

    def _keep(self, row: Mapping[str, object]) -> None:
        self.metrics.append(row)  # first: from the rows `best` can be found again
        self._point()

    def _point(self) -> None:
        """Let ``best`` name the checkpoint of the best score; it may be gone.

        One that was chosen by other scores stays until there is one like these.
        """
        best, folder = self.best(), self.directory.checkpoints
        kept, now = checkpoint.steps(folder), pointed(folder, "best")
        if best is not None and best[0] in kept:
            if now != best[0]:
                point(folder, "best", checkpoint.locate(folder, str(best[0])))
            return
        if best is not None or now not in kept:
            unpoint(folder, "best")
        if best is not None and best[0] != self._told:
            self._told = best[0]
            self.report.note(
                f"the checkpoint of the best score, of step {best[0]}, was not kept: `best` will "
                "be the next that beats it"
            )
        elif best is None and self.aim is not None and now in kept and now != self._told:
            self._told = now
            self.report.note(
                f"`best` stays at step {now}, which other scores chose, until there is one like "
                "these"
            )


def owes_last(metrics: MetricsFile, config: EvaluateConfig, step: int) -> bool:
    """Whether a run that did all its steps was stopped before the last of them was scored."""
    if not isinstance(config.every, int) or step % config.every:
        return False
    return all(found != step for found, _ in metrics.scores(""))


def in_words(scores: Mapping[str, object]) -> str:
    """The first number of each measure, ``evaluate/fd 12.3``; details have a dot in their key."""
    shown = {key: value for key, value in scores.items() if "." not in key}
    told = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in shown.items()}
    return "  ".join(f"{key} {text}" for key, text in told.items())
