"""The picture of a game on the line: two densities, and below them a decision and the best one."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image


def line_picture(
    title: str,
    x: np.ndarray,
    data: np.ndarray,
    generated: np.ndarray,
    decision: np.ndarray | None,
    optimum: np.ndarray,
) -> Image.Image:
    """Draw one frame; frames over the same data have the same axes.

    Args:
        title: what the frame is of, such as the step.
        x: ``(P,)`` places.
        data: ``(P,)`` density of the data.
        generated: ``(P,)`` density of the samples; cut off where it is much higher than the data's.
        decision: ``(P,)`` probability of being real that the discriminator gives; None: not drawn.
        optimum: ``(P,)`` the best decision for these densities; NaN is left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = 1 if decision is None else 2
    panels: Any = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    top = panels[0]
    top.fill_between(x, data, color="0.85", label="data")
    top.plot(x, data, color="0.4", lw=1)
    top.plot(x, generated, color="tab:green", lw=2, label="generator")
    top.set_ylim(0, 2.5 * float(data.max()))
    top.set_ylabel("density")
    top.set_title(title, parse_math=False)
    top.legend(loc="upper right")
    if decision is not None:
        bottom = panels[1]
        bottom.plot(x, optimum, color="black", lw=1.5, ls=":", label="optimum")
        bottom.plot(x, decision, color="tab:blue", lw=2, label="discriminator")
        bottom.axhline(0.5, color="0.8", lw=1, zorder=0)
        bottom.set_ylim(-0.03, 1.03)
        bottom.set_ylabel("D, probability of real")
        bottom.legend(loc="best")
    panels[-1].set_xlim(float(x[0]), float(x[-1]))
    panels[-1].set_xlabel("x")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
