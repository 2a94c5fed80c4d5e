"""Where everything of a study is, and the results that were written there."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from genctl.config import presets
from genctl.engine.run_directory import write_atomically
from genctl.errors import ConfigError, GenctlError, UsageError
from genctl.reading import read_limited
from genctl.study.plan import Study, Trial

DONE, FAILED = "done", "failed"
NONFINITE = 6
"""The exit code of a training that numbers stopped: a result like others, never tried again."""

_LARGEST = 2**24  # bytes of one result; it has a few thousand


@dataclass(frozen=True)
class StudyDirectory:
    """``study.yaml``, ``runs/``, ``results/``, ``logs/``, ``table.csv``, ``table.json``, a plot."""

    path: Path

    def run(self, trial: Trial) -> Path:
        """The trial's run directory."""
        return self.path / "runs" / trial.name

    def result(self, trial: Trial) -> Path:
        """What came of the trial."""
        return self.path / "results" / f"{trial.name}.json"

    def log(self, trial: Trial) -> Path:
        """What the trial's processes said on stderr."""
        return self.path / "logs" / f"{trial.name}.txt"

    def output(self, trial: Trial, stage: str) -> Path:
        """The object that a command of the trial printed."""
        return self.path / "logs" / f"{trial.name}.{stage}.json"

    @property
    def plot(self) -> Path:
        """The picture."""
        return self.path / "plot.png"

    def refuse_if_foreign(self) -> None:
        """Make sure that a study may be here.

        Raises:
            UsageError: something else is.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(str(self.path), "is a file", "choose another --out")
        known = not self.path.is_dir() or (self.path / "study.yaml").is_file()
        if not known and any(entry.name != ".lock" for entry in self.path.iterdir()):
            reason = "exists, is not empty, and holds no study"
            raise UsageError(str(self.path), reason, "choose another --out")

    def refuse_changed(self, study: Study) -> None:
        """Make sure that what was done is what the study asks for; more may be asked.

        Raises:
            ConfigError: trials of the same name were made with other settings.
        """
        changed = []
        for trial in study.trials:
            known = self.read(trial)
            if known is not None and known.get("digest") != digest(study, trial):
                changed.append(f"{trial.name}: was made with other settings")
        if changed:
            remedy = (
                f"choose another --out, or remove {self.path / 'results'} and {self.path / 'runs'}"
            )
            raise ConfigError(str(self.path), changed, remedy)

    def begin(self, study: Study) -> None:
        """Make the folders and keep the study's text; a study here before goes on."""
        for name in ("runs", "results", "logs"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "study.yaml", study.text)

    def lock(self) -> IO[str]:
        """Take the study for this process; freed when it ends, however it ends.

        Raises:
            UsageError: another process conducts it.
            GenctlError: nothing can be written here.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a")
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise GenctlError(str(self.path), reason, "choose another place with --out") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            reason = "another process conducts this study"
            raise UsageError(str(self.path), reason, "wait for it, or stop it") from None
        except OSError:  # a file system without locks: then it is up to the user
            pass
        return handle

    def read(self, trial: Trial) -> dict[str, Any] | None:
        """The trial's result, or None where there is none that can be read."""
        found = _object(self.result(trial))
        return found if found is not None and _is_result(found) else None

    def printed(self, trial: Trial, stage: str) -> dict[str, Any] | None:
        """What a command of the trial printed, or None where it printed no object."""
        return _object(self.output(trial, stage))

    def settled(self, trial: Trial) -> bool:
        """Whether nothing is left to do for the trial: it is done, or its numbers broke."""
        known = self.read(trial)
        if known is None:
            return False
        return known["state"] == DONE or known["error"]["code"] == NONFINITE

    def write(self, study: Study, trial: Trial, **more: Any) -> None:
        """Keep what came of a trial."""
        known = {
            "run": trial.name,
            "entry": trial.entry,
            "settings": dict(trial.settings),
            "seed": trial.seed,
            "digest": digest(study, trial),
            **more,
        }
        write_atomically(self.result(trial), json.dumps(known, indent=1) + "\n")


def digest(study: Study, trial: Trial) -> str:
    """Changes with everything that decides the trial's numbers: preset, settings, measures."""
    preset = presets.read(trial.preset)
    preset.pop("about", None)
    asked = [
        preset,
        sorted(trial.changes),
        trial.data,
        trial.real,
        trial.seed,
        study.file.max_time,
        study.file.evaluate.model_dump(mode="json"),
    ]
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def waiting(directory: StudyDirectory, trials: Sequence[Trial]) -> list[Trial]:
    """The trials that are left to do, in their order."""
    return [trial for trial in trials if not directory.settled(trial)]


def _is_result(found: dict[str, Any]) -> bool:
    error = found.get("error")
    told = isinstance(error, dict) and {"code", "reason"} <= error.keys()
    return found.get("state") == DONE or (found.get("state") == FAILED and told)


def _object(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(read_limited(path, _LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
