"""The plot of a study: a panel for each sweep and metric, a line for each entry."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genctl.data.pictures import write_png
from genctl.printable import printable
from genctl.study.plan import Study, Sweep
from genctl.study.table import Group, Line, lines, numeric

WIDE = 16
"""An axis whose values span this factor or more is logarithmic."""


def draw(path: Path, study: Study, groups: Sequence[Group]) -> None:
    """Draw mean ± standard deviation over seeds, and each seed as a dot.

    Args:
        path: the PNG.
        study: decides panels, metrics and horizontal keys.
        groups: what there is so far; holes are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure
    from PIL import Image

    rows, columns = len(study.metrics), len(study.sweeps)
    figure = Figure(figsize=(1.0 + 5.0 * columns, 0.6 + 3.6 * rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(printable(study.name), parse_math=False)
    all_axes = figure.subplots(rows, columns, squeeze=False)
    for axes_row, metric in zip(all_axes, study.metrics, strict=True):
        for axes, sweep in zip(axes_row, study.sweeps, strict=True):
            for i, line in enumerate(lines(sweep, groups)):
                _line(axes, line, metric, f"C{i % 10}", joined=sweep.x is not None)
            _label(axes, sweep, metric, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        canvas.draw()
    write_png(path, Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def _line(axes: Any, line: Line, metric: str, colour: str, *, joined: bool) -> None:
    found = [(x, group.summary(metric)) for x, group in zip(line.x, line.groups, strict=True)]
    shown = [(x, s["mean"], s["std"] or 0.0) for x, s in found if s["mean"] is not None]
    for x, group in zip(line.x, line.groups, strict=True):
        values = group.get(metric)
        if np.isfinite(values).sum() > 1:
            axes.plot([x] * len(values), values, ".", color=colour, alpha=0.35, ms=5)
    if shown:
        places, mean, std = (list(column) for column in zip(*shown, strict=True))
        style = "o-" if joined else "o"
        label = printable(line.label.lstrip("_")) or None
        axes.errorbar(places, mean, yerr=std, fmt=style, color=colour, capsize=3, ms=4, label=label)


def _label(axes: Any, sweep: Sweep, metric: str, groups: Sequence[Group]) -> None:
    axes.set_ylabel(printable(metric), parse_math=False)
    axes.grid(alpha=0.3)
    if sweep.x is None:
        names = [group.entry for line in lines(sweep, groups) for group in line.groups]
        axes.set_xticks(range(len(names)), [printable(name) for name in names], parse_math=False)
        return
    values = list(sweep.axes[sweep.x])
    axes.set_xlabel(printable(sweep.x), parse_math=False)
    fixed = [f"{key} {v[0]}" for key, v in sweep.axes.items() if len(v) == 1 and key != sweep.x]
    axes.set_title(printable(", ".join(fixed)), fontsize="medium", parse_math=False)
    if not numeric(values):
        shown = [printable(str(value), 24) for value in values]
        axes.set_xticks(range(len(values)), shown, rotation=20, parse_math=False)
    else:
        places = [float(value) for value in values]  # type: ignore[arg-type]
        if min(places) > 0 and max(places) >= WIDE * min(places):
            axes.set_xscale("log", base=2 if all(math.log2(p).is_integer() for p in places) else 10)
        if len(places) <= 12:
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.minorticks_off()
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        for text in axes.legend(handles, labels, fontsize="small").get_texts():
            text.set_parse_math(False)
