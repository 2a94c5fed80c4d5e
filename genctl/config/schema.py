"""The validated run configuration. Defaults live here, in one commented place."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from genctl.printable import is_printable
from genctl.types import DataSpec

TIME = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h)$")


def seconds_of(text: str) -> float:
    """``90s``, ``10m`` or ``2h`` in seconds.

    Raises:
        ValueError: any other form.
    """
    match = TIME.match(text)
    if match is None:
        raise ValueError(f"expected a time such as 90s, 10m or 2h, found {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _checked_time(value: int | str) -> int | str:
    if isinstance(value, str):
        seconds_of(value)
    elif value < 1:
        raise ValueError("must be at least 1")
    return value


class Section(BaseModel):
    """Strict and frozen: an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataConfig(Section):
    """What to train on and how it is prepared."""

    spec: str | None = None  # a data SPEC; --data wins over it
    size: Annotated[int, Field(ge=2)] | Literal["native"] = "native"  # edge in pixels
    flip: bool = False  # mirror images at random
    crop: Literal["none", "centre", "random"] = "centre"  # how non-square images become square
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.05  # share of a folder kept for evaluation
    binarise: Literal["none", "threshold", "dynamic", "fixed"] = "none"
    without: list[Annotated[int, Field(ge=0)]] = []  # labels left out, for --anomaly


class TrainConfig(Section):
    """How long, how much at a time, in which precision."""

    steps: Annotated[int, Field(ge=1)] = 10_000  # calls of training_step
    batch_size: Annotated[int, Field(ge=1)] = 64  # over all ranks
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"  # auto: bf16 where it is fast
    # The log says what was decided and why; ``graphs`` also records CUDA graphs.
    compile: bool | Literal["auto", "graphs"] = "auto"
    deterministic: bool = False  # only deterministic kernels; slower on a GPU
    clip: Annotated[float, Field(gt=0)] | None = None  # largest gradient norm of a player
    checkpoint_every: Annotated[int | str, AfterValidator(_checked_time)] = "5m"
    keep: Annotated[int, Field(ge=0)] = 3  # checkpoints kept; 0 keeps all
    on_out_of_memory: Literal["stop", "halve"] = "stop"  # halve: begin with a batch that fits


class EmaConfig(Section):
    """Averages of weights, used for sampling and evaluation by default."""

    half_life_images: Annotated[float, Field(gt=0)] | None = None  # None: no exponential average
    warmup: Annotated[float, Field(ge=0)] = 0.05  # half-life is at most this share of images seen
    last: Annotated[int, Field(ge=1)] | None = None  # instead: mean of the last n iterates


MeasureName = Literal[
    "fid",
    "is",
    "kid",
    "prd",
    "pr",
    "dc",
    "modes",
    "nll",
    "accuracy",
    "agreement",
    "clusters",
    "memorization",
    "probe",
    "manifold",
    "anomaly",
]
"""The table of ``genctl.metrics.measure``, which is above this room; a test holds them equal."""


NAMED_FEATURES = ("inception", "pixels", "points")
"""What ``evaluate.features`` may be beside a path; a folder called so is ``./pixels``."""


class EvaluateConfig(Section):
    """Scores when training is done, and on the way; off by default."""

    every: Annotated[int | str, AfterValidator(_checked_time)] | None = None  # steps, or 5m
    measures: list[MeasureName] = []
    features: str = "pixels"  # inception, pixels, or a classifier's run
    n: Annotated[int, Field(ge=1)] | None = None  # examples a side; None: 10,000 or all
    best: MeasureName | None = None  # keep the checkpoint that scores best: RUN@best
    patience: Annotated[int, Field(ge=1)] | None = None  # stop after so many scores none better

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.every is not None and not self.measures:
            raise ValueError("`every` needs `measures`, such as measures=[fid]")
        if self.best is not None and (self.every is None or self.best not in self.measures):
            raise ValueError("`best` needs `every`, and to be one of `measures`")
        if self.patience is not None and self.best is None:
            raise ValueError("`patience` needs `best`, the measure that must improve")
        return self


class LogConfig(Section):
    """How often the run reports."""

    every: Annotated[int, Field(ge=1)] = 100
    preview_every: Annotated[int, Field(ge=0)] = 1000  # steps; 0 turns previews off
    preview_rows: Annotated[int, Field(ge=1, le=32)] = 8
    held_out: bool = True  # rows also tell the loss of examples that are not trained on


Edge = Annotated[int, Field(ge=1, le=2**20)]
Count = Annotated[int, Field(ge=0, le=2**20)]


class Found(Section):
    """Facts of the data that was trained on; with them a run can sample without its data."""

    kind: Literal["image", "points"]
    shape: Annotated[list[Edge], Field(min_length=1, max_length=4)]
    classes: Count = 0
    class_names: list[str] = []
    levels: Count = 256
    examples: Annotated[int, Field(ge=0)]
    fingerprint: str

    def spec(self) -> DataSpec:
        """The facts as the models want them."""
        return DataSpec(
            self.kind, tuple(self.shape), self.classes, tuple(self.class_names), self.levels
        )


def _plain_name(value: str | None) -> str | None:
    """A run without ``--out`` is named after its preset: the name must not lead anywhere."""
    if value is not None:
        bare = value.strip(". ") and not set("/\\") & set(value) and is_printable(value)
        if not bare or len(value) > 200:
            raise ValueError("a preset's name must be a plain file name")
    return value


PlainName = Annotated[str | None, AfterValidator(_plain_name)]


class RunConfig(Section):
    """Everything that decides a run. ``model`` and the players' ``optim`` are complete nodes."""

    about: dict[str, Any] = {}
    model: dict[str, Any]
    data: DataConfig = DataConfig()
    optim: dict[str, dict[str, Any]] = {}
    train: TrainConfig = TrainConfig()
    ema: EmaConfig = EmaConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    log: LogConfig = LogConfig()
    preset: PlainName = None  # the preset's name, or the file's stem
    found: Found | None = None  # filled in when training starts
