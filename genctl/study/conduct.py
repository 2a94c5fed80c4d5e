"""Conducts a study: each trial is ``genctl train`` and ``genctl evaluate`` in processes of its own.

A crash of one takes nothing else down. The whole state is on the disk: a study that was killed at
any instant goes on with what is left, an unfinished training from its checkpoint.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genctl.engine import checkpoint
from genctl.engine.construction import read_checkpoint
from genctl.engine.run_directory import RunDirectory
from genctl.engine.signals import Requests, listening
from genctl.errors import GenctlError, UsageError
from genctl.metrics.measure import table
from genctl.study.directory import DONE, FAILED, NONFINITE, StudyDirectory, waiting
from genctl.study.plan import Study, Trial

POLL_SECONDS = 0.05
INTERRUPTED = 130
GENCTL = (sys.executable, "-m", "genctl")

_LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Options:
    """What the command line says of every process."""

    jobs: int = 1
    device: str = "auto"
    download: bool = False
    strict: bool = False


def train_command(
    study: Study, directory: StudyDirectory, trial: Trial, options: Options
) -> list[str]:
    """The words after ``genctl`` that begin the trial's training or go on with it."""
    words = ["train", "--preset", trial.preset, "--out", str(directory.run(trial))]
    words += ["--resume-or-start", "--seed", str(trial.seed), "--device", options.device, "--json"]
    words += [word for change in trial.changes for word in ("--set", change)]
    words += [] if trial.data is None else ["--data", trial.data]
    if study.max_seconds is not None:
        left = max(0.0, study.max_seconds - _seconds_spent(directory.run(trial)))
        words += ["--max-time", f"{left:.3f}s"]
    return words + _data_flags(options)


def evaluate_command(
    study: Study, directory: StudyDirectory, trial: Trial, options: Options
) -> list[str]:
    """The words after ``genctl`` that measure the trial's run."""
    run, asked = directory.run(trial), study.file.evaluate
    real = trial.real or RunDirectory(run).config().data.spec
    words = ["evaluate", str(run), *([real] if real else [])]
    words += [f"--{table()[name].flag}" for name in asked.measures]
    words += ["--seed", str(asked.seed), "--device", options.device, "--json"]
    words += [] if asked.n is None else ["-n", str(asked.n)]
    words += [] if asked.features is None else ["--features", asked.features]
    return words + _data_flags(options)


def conduct(
    study: Study,
    directory: StudyDirectory,
    options: Options,
    report: Callable[[str], None],
) -> str:
    """Make every trial that is left to do.

    Args:
        study: a checked study.
        directory: where it is; begun and locked.
        options: of the processes.
        report: told of every trial that ends.

    Returns:
        ``end``, or ``signal`` when Ctrl-C, SIGTERM or SIGHUP stopped it: the trainings have saved
        themselves, and another call goes on with them.
    """
    todo = waiting(directory, study.trials)
    total, count = len(study.trials), len(study.trials) - len(todo)
    if count:
        report(f"{count} of {total} runs are there already")
    running: list[_Worker] = []
    with listening() as requests, ExitStack() as at_the_end:
        at_the_end.callback(_kill_all, running)
        while (todo and not requests.stop) or running:
            while todo and len(running) < options.jobs and not requests.stop:
                place = next((i for i, t in enumerate(todo) if _is_free(directory.run(t))), None)
                if place is None:  # left over from a conductor that was killed; they save and end
                    break
                running.append(_Worker(study, directory, todo.pop(place), options))
            time.sleep(POLL_SECONDS)
            _pass_on(requests, running)
            for worker in [worker for worker in running if worker.over(not requests.stop)]:
                running.remove(worker)
                count += worker.settled
                report(f"[{count}/{total}] {worker.trial.name}: {worker.said}")
    return "signal" if requests.stop else "end"


@dataclass
class _Worker:
    """One trial under way: a training, then an evaluation, then a result."""

    study: Study
    directory: StudyDirectory
    trial: Trial
    options: Options
    said: str = ""
    settled: bool = False
    stopping: bool = False
    stage: str = field(default="train", init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.directory.log(self.trial).unlink(missing_ok=True)
        self._start("train", train_command)

    def _start(self, stage: str, command: Callable[..., list[str]]) -> None:
        words = command(self.study, self.directory, self.trial, self.options)
        self.stage = stage
        with (
            self.directory.log(self.trial).open("ab") as log,
            self.directory.output(self.trial, stage).open("wb") as output,
        ):
            self.process = subprocess.Popen(
                [*GENCTL, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=_environment(self.options.jobs),
                start_new_session=True,  # a terminal's Ctrl-C reaches us; we pass it on once
                preexec_fn=_end_with_us,
            )

    def over(self, go_on: bool) -> bool:
        """Look after the process; true when there is nothing more to do for the trial now."""
        code = self.process.poll()
        if code is None:
            return False
        printed = self.directory.printed(self.trial, self.stage) or {}
        if code == INTERRUPTED or (code < 0 and self.stopping):
            self.said = "interrupted; goes on when the study does"
        elif code != 0 or "error" in printed:
            self._fail(code, printed)
        elif self.stage == "train" and self.study.file.evaluate.measures:
            if go_on:
                try:
                    self._start("evaluate", evaluate_command)
                except GenctlError as error:
                    self._fail(error.exit_code, {"error": error.as_dict()})
                    return True
                return False
            self.said = "trained; it is measured when the study goes on"
        else:
            self._finish()
        return True

    def _finish(self) -> None:
        trained = self.directory.printed(self.trial, "train") or {}
        measured = self.directory.printed(self.trial, "evaluate") or {}
        self.settled = True
        self.said = f"done at step {trained.get('step')}, {trained.get('seconds', 0):.0f} s"
        self.directory.write(
            self.study,
            self.trial,
            state=DONE,
            train=trained,
            metrics=measured.get("metrics", {}),
            protocol=measured.get("protocol", {}),
        )

    def _fail(self, code: int, printed: dict[str, Any]) -> None:
        found = printed.get("error")
        error = found if isinstance(found, dict) else _death(code, self.directory.log(self.trial))
        self.settled = error["code"] == NONFINITE
        self.said = f"failed ({error['code']}): {error['reason']}"
        trained = {key: value for key, value in printed.items() if key != "error"}
        if self.stage == "evaluate":
            trained = self.directory.printed(self.trial, "train") or {}
        self.directory.write(
            self.study,
            self.trial,
            state=FAILED,
            stage=self.stage,
            error=error,
            train=trained,
            metrics={},
        )


def _pass_on(requests: Requests, running: Sequence[_Worker]) -> None:
    """Tell every process once what was asked of us: to save, or to save and stop."""
    for worker in running:
        if requests.stop and not worker.stopping:
            worker.stopping = True
            worker.process.send_signal(signal.SIGTERM)
        elif requests.save:
            worker.process.send_signal(signal.SIGUSR1)
    requests.save = False


def _kill_all(running: Sequence[_Worker]) -> None:
    """When the conductor itself fails, its processes save themselves and end."""
    for worker in running:
        worker.process.terminate()


def _death(code: int, log: Path) -> dict[str, Any]:
    """The error of a process that could not tell its own."""
    reason = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return {
        "code": code if code > 0 else 1,
        "thing": str(log),
        "reason": f"{reason}{': ' if last and code >= 0 else ''}{last if code >= 0 else ''}",
        "remedy": f"its words are in {log}",
    }


def _seconds_spent(run: Path) -> float:
    """Training time that the run's checkpoint holds, of earlier processes."""
    if not RunDirectory(run).exists() or not checkpoint.steps(run / "checkpoints"):
        return 0.0
    try:
        return float(read_checkpoint(run).state["seconds"])
    except GenctlError:  # damaged: the training itself will tell
        return 0.0


def _is_free(run: Path) -> bool:
    """Whether no process trains this run."""
    if not run.is_dir():
        return True
    try:
        RunDirectory(run).lock().close()
    except UsageError:
        return False
    except GenctlError:  # it will tell when it is started
        return True
    return True


def _data_flags(options: Options) -> list[str]:
    flags = {"--download": options.download, "--strict-data": options.strict}
    return [flag for flag, on in flags.items() if on]


def _environment(jobs: int) -> dict[str, str]:
    """Ours, without what a launcher said, and with the cores shared out."""
    found = {key: value for key, value in os.environ.items() if key not in _LAUNCHER}
    if jobs > 1:
        found.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return found


_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def _end_with_us() -> None:
    """In the child, before genctl: be told when the conductor is killed, then save and end."""
    if _LIBC is not None:
        _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGTERM)
