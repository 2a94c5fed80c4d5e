"""What people answered: how often generated pictures were called real, and how sure that is.

Intervals are Wilson's (1927) at 95 %. They treat answers as independent; those of one person are
not quite, so many answers of few people know less than their interval says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.stats import binomtest

from genctl import __version__
from genctl.engine.run_directory import write_atomically
from genctl.errors import DataError, GateError
from genctl.printable import printable
from genctl.reading import read_limited
from genctl.report import gates

FORMAT = "genctl-human-answers-1"
CONFIDENCE = 0.95
LARGEST = 2**21
"""Bytes of a file of answers."""
FIELDS = ("value", "accuracy", "n_generated", "n_real", "sittings")
"""What a gate may name: the numbers of a result."""

Side = Literal["real", "generated"]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Answer(BaseModel):
    """One picture: what it was, what it was taken for, and after how long."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    trial: Annotated[int, Field(ge=1)]
    truth: Side
    answer: Side
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sitting(BaseModel):
    """The file that a page saves: one person's answers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["genctl-human-answers-1"]
    page: Hex
    sitting: Hex
    generated: Annotated[str, Field(max_length=1000)]
    real: Annotated[str, Field(max_length=1000)]
    n: Annotated[int, Field(ge=2)]
    shown_seconds: float | None
    seed: int
    answers: Annotated[list[Answer], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Sitting:
        trials = [answer.trial for answer in self.answers]
        if len(set(trials)) < len(trials) or max(trials) > self.n:
            raise ValueError(f"expected each of {self.n} pictures at most once")
        return self


def evaluate_answers(
    files: Sequence[str], require: Sequence[str] = (), out: Path | None = None
) -> dict[str, Any]:
    """Judge one or several files of answers, pooled and apart.

    Args:
        files: what the pages saved.
        require: gates, such as ``human>=0.3``.
        out: also write the result here.

    Returns:
        The object that ``genctl evaluate --human-results --json`` prints; gates that are not met
        are in it as ``error``.

    Raises:
        DataError: a file that cannot be read, is malformed, or is given twice.
        UsageError: a gate on something else.
    """
    wanted = [gates.parse(text) for text in require]
    gates.check_names(wanted, {"human": FIELDS})
    sittings = [read_sitting(Path(file)) for file in files]
    seen: dict[str, str] = {}
    for file, sitting in zip(files, sittings, strict=True):
        if sitting.sitting in seen:
            reason = f"holds the same answers as {seen[sitting.sitting]}"
            raise DataError(file, reason, "give each file once")
        seen[sitting.sitting] = file
    pooled = [answer for sitting in sittings for answer in sitting.answers]
    metrics = {"human": {**judge(pooled), "sittings": len(sittings)}}
    result: dict[str, Any] = {
        "generated": _one([sitting.generated for sitting in sittings]),
        "real": _one([sitting.real for sitting in sittings]),
        "n_generated": metrics["human"]["n_generated"],
        "n_real": metrics["human"]["n_real"],
        "features": None,
        "protocol": {
            "pages": list(dict.fromkeys(sitting.page for sitting in sittings)),
            "shown_seconds": _one([sitting.shown_seconds for sitting in sittings]),
            "interval": f"Wilson, {CONFIDENCE:.0%}, answers taken as independent",
            "versions": {"genctl": __version__},
        },
        "metrics": metrics,
        "files": [
            {
                "file": file,
                "page": sitting.page,
                "answered": len(sitting.answers),
                "asked": sitting.n,
                **judge(sitting.answers),
            }
            for file, sitting in zip(files, sittings, strict=True)
        ],
        "warnings": _warnings(files, sittings),
        "gates": gates.judge(wanted, metrics, None),
    }
    unmet = [gate for gate in result["gates"] if not gate["met"]]
    if unmet:
        found = ", ".join(f"{gate['require']} (found {gate['value']})" for gate in unmet)
        result["error"] = GateError("--require", f"not met: {found}", "").as_dict()
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(out, text)
    return result


def read_sitting(path: Path) -> Sitting:
    """Read and check a file of answers.

    Raises:
        DataError: with the reason.
    """
    remedy = "give files that a page of `genctl evaluate --human` saved"
    try:
        text = read_limited(path, LARGEST).decode("utf-8")
        return Sitting.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
        reason = f"{place}: {first['msg']}{more}" if place else f"{first['msg']}{more}"
        raise DataError(str(path), printable(reason, 400), remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise DataError(str(path), f"cannot be read: {why or error}", remedy) from None


def judge(answers: Sequence[Answer]) -> dict[str, Any]:
    """The fooling rate and the accuracy, each with its interval.

    Returns:
        ``value``: the share of generated pictures called real, null where none was shown;
        ``accuracy``: the share of right answers; ``n_generated`` and ``n_real``: pictures shown.
    """
    generated = [answer for answer in answers if answer.truth == "generated"]
    fooled = sum(answer.answer == "real" for answer in generated)
    right = sum(answer.answer == answer.truth for answer in answers)
    value, interval = share(fooled, len(generated))
    accuracy, accuracy_interval = share(right, len(answers))
    return {
        "value": value,
        "interval": interval,
        "accuracy": accuracy,
        "accuracy_interval": accuracy_interval,
        "n_generated": len(generated),
        "n_real": len(answers) - len(generated),
    }


def share(count: int, n: int) -> tuple[float | None, list[float] | None]:
    """``count`` of ``n`` with Wilson's interval; nulls of nothing."""
    if not n:
        return None, None
    found = binomtest(count, n).proportion_ci(CONFIDENCE, method="wilson")
    return count / n, [float(found.low), float(found.high)]


def _one(values: Sequence[Any]) -> Any:
    """The value where all have the same, else all that there are."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different


def _warnings(files: Sequence[str], sittings: Sequence[Sitting]) -> list[str]:
    found = []
    pages = {sitting.page for sitting in sittings}
    if len(pages) > 1:
        found.append(f"the answers of {len(pages)} different pages are pooled")
    for file, sitting in zip(files, sittings, strict=True):
        if len(sitting.answers) < sitting.n:
            answered = len(sitting.answers)
            found.append(f"{printable(file)}: stopped after {answered} of {sitting.n} pictures")
    return found
