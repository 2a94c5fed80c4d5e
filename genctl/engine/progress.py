"""What a person sees while a run goes on: a bar on a terminal, plain lines without one."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import IO, Any, Protocol, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from genctl.engine.log import SCORES
from genctl.printable import Unfailing, say


class Reporter(Protocol):
    """Receives what happens in a run."""

    def start(self, step: int, steps: int) -> None:
        """Training begins after ``step`` of ``steps``."""

    def advance(self, step: int) -> None:
        """A step is done."""

    def row(self, row: Mapping[str, Any], images_per_second: float) -> None:
        """A log row was written."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def close(self) -> None:
        """The run is over, however it ended."""


class Silent:
    """Reports nothing."""

    def start(self, step: int, steps: int) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def row(self, row: Mapping[str, Any], images_per_second: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines(Silent):
    """One plain line for each log row, with the time left; no control characters."""

    def start(self, step: int, steps: int) -> None:
        """Remember where the clock started."""
        self.first, self.steps, self.began = step, steps, time.monotonic()

    def row(self, row: Mapping[str, Any], images_per_second: float) -> None:
        """``step 100/1000  0:12 left  512 img/s  loss/…``."""
        done = row["step"] - self.first
        left = (time.monotonic() - self.began) / max(1, done) * (self.steps - row["step"])
        self.note(
            f"step {row['step']}/{self.steps}  {clock(left)} left  "
            f"{images_per_second:.0f} img/s  {summary(row)}"
        )

    def note(self, text: str) -> None:
        """A line on stderr."""
        say(text)


class Bar:
    """A Rich progress bar on stderr."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[what]}"),
            console=Console(file=cast(IO[str], Unfailing(sys.stderr))),
        )

    def start(self, step: int, steps: int) -> None:
        """Show the bar."""
        self.progress.start()
        self.task = self.progress.add_task("training", total=steps, completed=step, what="")

    def advance(self, step: int) -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=step)

    def row(self, row: Mapping[str, Any], images_per_second: float) -> None:
        """Show the newest values beside the bar."""
        self.progress.update(self.task, what=f"{images_per_second:.0f} img/s  {summary(row)}")

    def note(self, text: str) -> None:
        """A line above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.progress.stop()


def reporter(quiet: bool = False) -> Reporter:
    """The right reporter for where stderr goes."""
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def summary(row: Mapping[str, Any]) -> str:
    """The losses, a gauge or two and the newest scores, short enough for a line."""
    shown = {
        key: value
        for key, value in row.items()
        if key.startswith("loss/")
        or key in ("began/k", "diversity")
        or (key.startswith(SCORES) and "." not in key)
    }
    return "  ".join(f"{k} {'nan' if v is None else format(v, '.4g')}" for k, v in shown.items())
