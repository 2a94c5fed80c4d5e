"""Reading and drawing ``metrics.jsonl``: any subset of keys, holes and a torn last line too."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genctl.data.pictures import write_png
from genctl.engine.log import SCORES, alike
from genctl.engine.pointers import pointed
from genctl.errors import DataError, UsageError
from genctl.printable import printable
from genctl.report.metrics_rows import Log, Row, read_rows

CLOCKS = ("step", "images", "seconds")
COUNTERS = ("steps/", "nonfinite/", "seconds")
"""Prefixes of keys that count or time; they are read but not drawn."""

MAX_PANELS = 24
MAX_CURVES = 24
"""Of one run, in one panel."""
_STEP = re.compile(r"[0-9]{1,15}")


class Span(NamedTuple):
    """A stretch of steps with a name, drawn as a shade."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Curves:
    """The log of one run as columns of equal length.

    Attributes:
        run: the run as it was asked for.
        path: the file that was read.
        folder: the run directory, or None when the file stands alone.
        step: ``(R,)`` int64, strictly increasing.
        columns: every other key as ``(R,)`` float64, NaN where a row has no number for it.
        nonfinite: keys that were written as not finite, by step.
        notes: what was odd about the file.
    """

    run: str
    path: Path
    folder: Path | None
    step: np.ndarray
    columns: Mapping[str, np.ndarray]
    nonfinite: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.step)

    def get(self, key: str) -> np.ndarray | None:
        """A column, or None when no row has a number for it."""
        column = self.columns.get(key)
        return None if column is None or not np.isfinite(column).any() else column

    def starting(self, prefix: str) -> list[str]:
        """Keys with numbers that start with ``prefix``, sorted."""
        return sorted(key for key in self.columns if key.startswith(prefix) and self.has(key))

    def has(self, key: str) -> bool:
        """Whether any row has a number for the key."""
        return self.get(key) is not None


def read_curves(run: str | Path) -> Curves:
    """Read a run directory (``RUN`` or ``RUN@step``) or a ``metrics.jsonl`` alone.

    Raises:
        DataError: nothing there, or a file in which no line is a row.
        UsageError: an address that names no step.
    """
    path, until = _locate(str(run))
    folder = path if os.path.isdir(path) else None  # a Path raises, if its name is too long
    file = path / "metrics.jsonl" if folder is not None else path
    if folder is None and os.path.isfile(path.parent / "config.yaml"):
        folder = path.parent
    log = read_rows(file)
    if folder is not None and not (folder / "reports").resolve().is_relative_to(folder.resolve()):
        log.notes.append("its reports lead out of the run, so it is read as a log alone")
        folder = None  # a picture written there would lie somewhere else
    return _columns(str(run), file, folder, log, until)


def _locate(run: str) -> tuple[Path, int | None]:
    path = Path(os.path.expanduser(run))
    if os.path.exists(path) or "@" not in path.name:
        return path, None
    base, _, at = run.rpartition("@")
    path = Path(os.path.expanduser(base))
    if _STEP.fullmatch(at):
        return path, int(at)
    if at in ("latest", "best"):
        step = pointed(path / "checkpoints", at)
        if step is not None:
            return path, step
        raise DataError(printable(run), f"has no checkpoint {at!r}", "name a step, RUN@1000")
    raise UsageError(
        printable(run), f"{at!r} is neither a step nor a checkpoint", "RUN, RUN@1000 or RUN@best"
    )


def _columns(run: str, file: Path, folder: Path | None, log: Log, until: int | None) -> Curves:
    notes = log.notes
    asked = [r for r in log.rows if until is None or r.step is None or r.step <= until]
    rows = _joined(_alike(asked, notes))
    if rows and not log.numbered:
        notes.append("no row has a step: rows are numbered instead")
        rows = [replace(row, step=i) for i, row in enumerate(rows, 1)]
    # Of two rows for one step the later is the resumed run's.
    by_step = {r.step: r for r in rows if r.step is not None and (until is None or r.step <= until)}
    if not until and len(by_step) < len(rows):
        notes.append(f"{len(rows) - len(by_step)} rows repeat a step or have none")
    steps = sorted(by_step)
    ordered = [by_step[step] for step in steps]
    keys = dict.fromkeys(key for row in ordered for key in row.values)
    return Curves(
        run=run,
        path=file,
        folder=folder,
        step=np.array(steps, dtype=np.int64),
        columns={key: np.array([row.values.get(key, math.nan) for row in ordered]) for key in keys},
        nonfinite={
            s: row.nonfinite for s, row in zip(steps, ordered, strict=True) if row.nonfinite
        },
        notes=notes,
    )


def _alike(rows: Sequence[Row], notes: list[str]) -> Sequence[Row]:
    """Without the scores that were taken otherwise than the last of their key: no one curve."""
    if len({row.how for row in rows if row.how}) < 2:
        return rows  # as nearly always, and there may be a million
    last = {key: row.how for row in rows if row.how for key in row.values if _is_score(key)}
    kept, others = [], []
    for row in rows:
        unlike = {
            key for key in row.values if row.how and not alike(row.how, last.get(key, row.how))
        }
        others += [row.how] if unlike else []
        values = {key: value for key, value in row.values.items() if key not in unlike}
        if not unlike or any(map(_is_score, values)):
            kept.append(replace(row, values=values))
    if others:
        names = ", ".join(dict.fromkeys(others))
        notes.append(
            f"scores of {len(others)} rows were taken otherwise than later ones ({names}) and are "
            "left out"
        )
    return kept


def _is_score(key: str) -> bool:
    return key.startswith(SCORES)


def _joined(rows: Sequence[Row]) -> list[Row]:
    """Rows of scores, which are taken beside the log, put into the log row of their step."""
    joined: list[Row] = []
    for row in rows:
        last = joined[-1] if joined else None
        scored = any(map(_is_score, row.values))
        if scored and last is not None and row.step is not None and last.step == row.step:
            newer = {key: value for key, value in row.values.items() if _is_score(key)}
            joined[-1] = replace(last, values={**row.values, **last.values, **newer})
        else:
            joined.append(row)
    return joined


def of_training(curves: Curves) -> Curves:
    """The curves without the rows that hold scores alone: what is seen is then what was logged."""
    logged = [key for key in curves.columns if not key.startswith((*CLOCKS, SCORES))]
    scored = [key for key in curves.columns if key.startswith(SCORES)]
    kept = np.ones(len(curves), dtype=bool)
    if scored:
        there = [np.isfinite(curves.columns[key]) for key in logged]
        kept = np.any(there, axis=0) if there else np.zeros(len(curves), dtype=bool)
        kept |= np.isin(curves.step, list(curves.nonfinite))
    return replace(
        curves,
        step=curves.step[kept],
        columns={key: column[kept] for key, column in curves.columns.items()},
    )


def panels(curves: Curves) -> dict[str, list[str]]:
    """Which keys are drawn together, by title, in the order of interest; no more than fit."""
    groups: dict[str, list[str]] = {
        "loss": curves.starting("loss/"),
        "score": curves.starting("score/"),
        "accuracy, diversity": [*curves.starting("accuracy/"), *curves.starting("diversity")],
        "gradient norm": curves.starting("grad_norm/"),
    }
    known = {key for keys in groups.values() for key in keys}
    for key in curves.columns:
        counted = key in CLOCKS or key.startswith(COUNTERS)
        if key in known or counted or not curves.has(key):
            continue
        if key.startswith("lr/") and np.nanmin(values := curves.columns[key]) == np.nanmax(values):
            continue  # a constant rate is in config.yaml
        groups.setdefault(key.split("/")[0], []).append(key)
    shown = [(title, keys[:MAX_CURVES]) for title, keys in groups.items() if keys]
    return dict(shown[:MAX_PANELS])


def plot(
    path: str | Path, runs: Sequence[Curves], spans: Sequence[Sequence[Span]] | None = None
) -> None:
    """Draw the curves of one or several runs as a PNG.

    Args:
        path: where to write.
        runs: drawn over each other.
        spans: for each run, stretches to shade; drawn for a single run only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure
    from PIL import Image

    titles = list(dict.fromkeys(title for curves in runs for title in panels(curves)))
    rows = math.ceil(max(1, len(titles)) / 2)
    figure = Figure(figsize=(12, 3.2 * rows + 0.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(printable(", ".join(curves.run for curves in runs)), parse_math=False)
    all_axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, title in zip(all_axes, titles, strict=False):
        for curves in runs:
            for key in panels(curves).get(title, []):
                name = key.lstrip("_") or "?"  # a leading underscore would hide it in the legend
                label = name if len(runs) == 1 else f"{name} ({curves.run})"
                values = curves.columns[key]
                shown = np.isfinite(values)
                mark = "." if shown.sum() < 30 else ""
                axes.plot(curves.step[shown], values[shown], mark + "-", lw=1, label=label)
        _scale(axes, [c.columns[k] for c in runs for k in panels(c).get(title, [])], title)
        if spans is not None and len(runs) == 1:
            for span in spans[0]:
                axes.axvspan(span.first, span.last, color="tab:red", alpha=0.08)
        axes.set_title(title, parse_math=False)
        axes.grid(alpha=0.3)
        for text in axes.legend(fontsize="small").get_texts():
            text.set_parse_math(False)
    for axes in all_axes[len(titles) :]:
        axes.set_axis_off()
    if not titles:
        figure.text(0.5, 0.5, "no metrics yet", ha="center")
    named = "; ".join(f"{s.name}, steps {s.first} to {s.last}" for s in (spans or [[]])[0])
    if named and len(runs) == 1:
        figure.supxlabel(f"shaded: {named}", fontsize="small")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        canvas.draw()
    write_png(path, Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def _scale(axes: Any, columns: Sequence[np.ndarray], title: str) -> None:
    """Logarithmic for norms, and for anything whose extremes would hide the rest."""
    values = np.concatenate([column[np.isfinite(column)] for column in columns])
    sizes = np.abs(values[values != 0])
    if not len(sizes):
        return
    if title == "gradient norm" and (values > 0).all():
        axes.set_yscale("log")
    elif sizes.max() > 100 * np.median(sizes):
        axes.set_yscale("symlog", linthresh=float(np.median(sizes)))
