"""Everything that can be wrong with a study, found before anything is run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from genctl.config.load import load_config
from genctl.config.schema import RunConfig
from genctl.data.dataset import Dataset, open_dataset
from genctl.engine.belonging import sketch
from genctl.engine.construction import build_model, check_players
from genctl.engine.device import pick_device
from genctl.engine.fit import complete, open_data
from genctl.errors import ConfigError, GenctlError, UsageError
from genctl.metrics.measure import table
from genctl.registry import suggest
from genctl.study.plan import Study, Trial

TRAINING = ("step", "images", "seconds")
"""What every training tells of itself; ``last/KEY`` is the last value of a key of its log."""

REMEDY = "`genctl presets show NAME` prints every key with its value"


def check(
    study: Study, source: str, *, device: str = "auto", download: bool = False, strict: bool = False
) -> None:
    """Resolve every configuration, open every data set, and build every model once.

    Args:
        study: the study.
        source: its file, for the message.
        device: where the trainings will be.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.

    Raises:
        ConfigError: with every problem of every trial; each is told once.
        DataError: nothing is wrong but the data.
    """
    where = pick_device(device)
    problems = Problems()
    for text in _names(study):
        problems.add(text)
    opening = _Opening(download, strict)
    for trial in _one_of_each(study.trials):
        with problems.of(f"runs.{trial.where}"):
            config = load_config(trial.preset, trial.changes)
            data = None
            with problems.of("data"):
                data = opening.training(config, trial.data)
                if trial.real is not None:
                    opening.real(trial.real)
            if data is not None:
                config = complete(config, data, trial.data, where)
                check_players(config, sketch(config) or build_model(config))
    problems.raise_any(source)


class Problems:
    """What was found so far, each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.errors: list[GenctlError] = []

    @contextlib.contextmanager
    def of(self, where: str) -> Iterator[None]:
        """Note what the block refuses, and go on after it."""
        try:
            yield
        except ConfigError as error:
            self._note(error, [f"{where}: {problem}" for problem in error.problems])
        except GenctlError as error:
            self._note(error, [f"{where}: {error}"])

    def add(self, text: str) -> None:
        """Note a problem of the file itself."""
        self._note(UsageError("study", text), [text])

    def _note(self, error: GenctlError, texts: Sequence[str]) -> None:
        self.errors.append(error)
        self.texts += [text for text in texts if text not in self.texts]

    def raise_any(self, source: str) -> None:
        """One error for all of them: of the configuration, unless all are of another kind.

        Raises:
            GenctlError: there was any.
        """
        if not self.errors:
            return
        remedy = next((error.remedy for error in self.errors if error.remedy), REMEDY)
        codes = {error.exit_code for error in self.errors}
        if codes == {self.errors[0].exit_code} and codes != {UsageError.exit_code}:
            raise type(self.errors[0])(source, "; ".join(self.texts), remedy)
        raise ConfigError(source, self.texts, remedy)


class _Opening:
    """Opens data; neighbouring trials mostly share theirs, so the last one is kept."""

    def __init__(self, download: bool, strict: bool) -> None:
        self.download, self.strict = download, strict
        self.key: object = None
        self.dataset: Dataset | None = None
        self.checked: set[str] = set()

    def training(self, config: RunConfig, spec: str | None) -> Dataset:
        key = (spec or config.data.spec, config.data)
        if self.dataset is None or self.key != key:
            self.key, self.dataset = None, None
            self.dataset = open_data(config, spec, download=self.download, strict=self.strict)
            self.key = key
        return self.dataset

    def real(self, spec: str) -> None:
        if spec not in self.checked:
            open_dataset(spec, download=self.download, strict=self.strict)
            self.checked.add(spec)


def _one_of_each(trials: Sequence[Trial]) -> Iterator[Trial]:
    """The first trial of every entry and setting: another seed changes nothing here."""
    seen = set()
    for trial in trials:
        if trial.group not in seen:
            seen.add(trial.group)
            yield trial


def _names(study: Study) -> list[str]:
    """Measures and metrics that do not exist."""
    known = table()
    asked = study.file.evaluate.measures
    problems = [
        f"evaluate.measures: no measure is called {name!r}{suggest(name, list(known))}"
        for name in asked
        if name not in known
    ]
    taken = {key for name in asked if name in known for key in _keys(name)}
    for metric in study.metrics:
        for part in metric.split(" / "):
            if part.split(".")[0] not in taken and not part.startswith("last/"):
                if part in TRAINING:
                    continue
                near = suggest(part, [*sorted(taken), *TRAINING, "last/loss/generator"])
                problems.append(f"plot.y: {part!r} is not measured{near}")
    return problems


def _keys(name: str) -> list[str]:
    """Under which names a measure may report: ``fid`` is ``fd`` with other features."""
    found = [m for m in table().values() if name in (m.name, m.asked_by)]
    return [key for m in found for key in (m.name, m.other_name) if key is not None]
