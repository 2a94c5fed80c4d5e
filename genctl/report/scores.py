"""Scores while training and at its end: ``genctl evaluate`` of the run's own checkpoints.

``fit`` is what ``genctl.fit`` and ``genctl train`` call: the training of the engine, to which the
scores of this room are handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from genctl.config.schema import RunConfig
from genctl.data.dataset import Dataset
from genctl.engine import distributed
from genctl.engine import fit as engine
from genctl.engine.log import SCORES
from genctl.engine.loop import FitResult
from genctl.engine.progress import Reporter
from genctl.engine.run import Run
from genctl.engine.scoring import Aim, Scores
from genctl.errors import CapabilityError, UsageError
from genctl.metrics.features.extractor import Extractor
from genctl.metrics.measure import Features, Settings, table
from genctl.report.evaluate import BATCH_SIZE, answer
from genctl.report.gates import first_field
from genctl.report.gather import OF_FEATURES, Request, gather, obstacle
from genctl.report.sides import DEFAULT_N

ELSEWHERE = "or leave evaluate.every out and run `genctl evaluate` afterwards"


class RunScorer:
    """The measures of ``evaluate.measures``, by the path that ``genctl evaluate`` takes.

    Args:
        config: the run's, with the data it was trained on.
        device: auto, cpu, cuda or mps.
        say: told what is being done when training is over; on the way a line says what was found.

    Attributes:
        reports: the newest report, by the address it is of.
        known: features of the real examples, computed at the first score.
        how: on how many examples and in which features, once it is prepared.
    """

    def __init__(
        self, config: RunConfig, device: str = "auto", say: Callable[[str], None] | None = None
    ) -> None:
        self.config, self.device, self.say = config, device, say or (lambda text: None)
        self.reports: dict[str, dict[str, Any]] = {}
        self.known: dict[str, Features] = {}
        self.how = ""

    def prepare(self, run: Run) -> Aim | None:
        """Open everything once, so that what is missing is told before the first step.

        Raises:
            CapabilityError: the model cannot do what a measure needs, or there are no weights.
            UsageError: the data is of a kind, or in a place, that a measure cannot use.
        """
        self.config = run.config  # completed by the engine: where the data is
        found = gather(replace(self._request(str(run.path)), run=run))
        examples = str(self.config.evaluate.n or DEFAULT_N)
        self.how = f"{examples} in {_identity(found.extractor)}" if found.extractor else examples
        for name in self.config.evaluate.measures:
            error = obstacle(table()[name], found)
            if error is not None:
                reason = f"{error.thing}: {error.reason}"
                kind = CapabilityError if isinstance(error, CapabilityError) else UsageError
                remedy = f"{error.remedy}, {ELSEWHERE}" if error.remedy else ELSEWHERE
                raise kind(f"evaluate.measures: {name}", reason, remedy)
        best = self.config.evaluate.best
        if best is None:
            return None
        measure = table()[best]
        standard = found.extractor is not None and found.extractor.standard
        how = self.how if set(measure.needs) & OF_FEATURES else examples
        return Aim(SCORES + measure.key(standard), measure.better == "larger", how)

    def __call__(self, address: str) -> Scores:
        """The numbers of a checkpoint, by their keys in ``metrics.jsonl``."""
        with distributed.processes(self.device):
            report = answer(self._request(address), None, None, lambda text: None)
        self.reports = {address: report}
        return as_row(report["metrics"])

    def last(self, run: Path, step: int) -> dict[str, Any]:
        """The report of a run's last step; the one that was made on the way, if that was it."""
        address = f"{run}@{step}"
        if address in self.reports:
            return self.reports[address]
        return answer(self._request(address), None, None, self.say)

    def _request(self, address: str) -> Request:
        asked = self.config.evaluate
        if self.config.data.spec is None:
            reason = "the data has no SPEC, so it cannot be opened again to be compared with"
            raise UsageError("evaluate.measures", reason, "train on a SPEC: a folder, an npz")
        return Request(
            generated=address,
            real=self.config.data.spec,
            measures=list(dict.fromkeys(asked.measures)),
            n=asked.n or DEFAULT_N,
            seed=0,
            features=asked.features,
            inception_weights=None,
            settings=Settings(),
            gates=[],
            device=self.device,
            batch_size=BATCH_SIZE,
            precision=None,
            run_precision=None,
            raw_weights=False,
            download=False,
            strict=False,
            known=self.known,
        )


def _identity(extractor: Extractor) -> str:
    """Whose features, the same from any place: the digest of a network, else a name."""
    return str(extractor.protocol["extractor_hash"] or extractor.name)


def as_row(metrics: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """The numbers of a report as a row holds them.

    ``evaluate/kid`` is the number that stands for the measure, ``evaluate/kid.std`` another of its
    fields. A measure that is undefined is None.
    """
    row: dict[str, float | None] = {}
    for key, entry in metrics.items():
        first = first_field(entry)
        for name, value in entry.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name == first:
                row[SCORES + key] = value if number else None
            elif number:
                row[f"{SCORES}{key}.{name}"] = value
    return row


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
    scorer: RunScorer | None = None,
) -> FitResult:
    """Train, from the start or from a checkpoint, with the scores that ``evaluate.every`` asks for.

    Args:
        config: a validated configuration.
        data: a data SPEC or an open data set; by default ``config.data.spec``.
        out: the run directory; None: the next free ``runs/<preset>-<n>``.
        device: auto, cpu, cuda or mps.
        resume: go on from this checkpoint of ``out``: ``latest``, ``best`` or a step.
        init: take the initial weights from another run.
        max_seconds: stop, with a checkpoint, this long after the call.
        download: let torchvision download a named data set.
        strict_data: refuse data with any broken file.
        report: told about progress; silent by default.
        scorer: takes the scores; one of its own by default.

    Raises:
        GenctlError: of the kind that says what the user can do.
    """
    return engine.fit(
        config,
        data,
        out,
        device=device,
        resume=resume,
        init=init,
        max_seconds=max_seconds,
        download=download,
        strict_data=strict_data,
        report=report,
        scorer=scorer or RunScorer(config, device),
    )
