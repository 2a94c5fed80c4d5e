"""Pictures during training: always the same latents, and no trace in the training itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genctl.contracts import Samples
from genctl.data.dataset import Dataset
from genctl.data.decode import BrokenImageError, decode
from genctl.data.line_picture import line_picture
from genctl.data.pictures import picture, write_frames, write_png
from genctl.engine.generators import undisturbed
from genctl.engine.line import look_along
from genctl.engine.state import Training
from genctl.randomness import RandomStream

FRAMES = 200
"""The most that a film has: it is made in memory."""
DRAWN = 0.002
"""Of its largest value, the least that a density has where the best decision is drawn."""


def write_preview(training: Training, folder: Path) -> Path | None:
    """Write ``step-00001000.png``; None when the model cannot sample.

    The model is put into evaluation mode with its averaged weights for the time being; the noise is
    a stream of its own, so a run with previews equals a run without.
    """
    model, config = training.model, training.config
    if not isinstance(model, Samples):
        return None
    rng = RandomStream(config.train.seed, "preview", device=training.update.device)
    model.eval()
    try:
        with (
            torch.no_grad(),
            undisturbed(training.update.device),
            training.average.applied(model),
        ):
            shown = _shown(training, rng)
    finally:
        model.train()
    path = folder / f"step-{training.step:08d}.png"
    write_png(path, shown)
    return path


def _shown(training: Training, rng: RandomStream) -> Image.Image:
    """Images in a grid, points in the plane, and on the line the whole game."""
    model, config = training.model, training.config
    assert isinstance(model, Samples)
    dataset = training.loader.dataset
    if _on_the_line(dataset):
        line = look_along(model, dataset, rng)
        best = np.where(line.visited(DRAWN), line.optimum, np.nan)
        title = f"step {training.step:,}"
        return line_picture(title, line.x, line.data, line.generated, line.decision, best)
    n = 2500 if dataset.spec.kind == "points" else config.log.preview_rows**2
    return picture(model.sample(n, rng).float().cpu())


def write_film(training: Training, folder: Path) -> Path | None:
    """Join the pictures of a game on the line into ``training.gif``; None where there is none.

    Evenly spaced pictures up to this step, at most ``FRAMES``; broken ones and those of another
    size are left out.
    """
    if not _on_the_line(training.loader.dataset):
        return None
    paths = sorted(
        path
        for path in folder.glob("step-*.png")
        if path.stem[5:].isdigit() and int(path.stem[5:]) <= training.step
    )
    if len(paths) > FRAMES:
        paths = [paths[i * (len(paths) - 1) // (FRAMES - 1)] for i in range(FRAMES)]
    frames = [frame for path in paths if (frame := _frame(path)) is not None]
    frames = [frame for frame in frames if frame.size == frames[-1].size]
    if len(frames) < 2:
        return None
    write_frames(folder / "training.gif", frames)
    return folder / "training.gif"


def _frame(path: Path) -> Image.Image | None:
    try:
        pixels = decode(path.read_bytes()).pixels
    except BrokenImageError:
        return None
    return Image.fromarray(pixels).convert("RGB") if pixels.shape[2] == 3 else None


def _on_the_line(dataset: Dataset) -> bool:
    return dataset.spec.kind == "points" and dataset.spec.shape == (1,)
