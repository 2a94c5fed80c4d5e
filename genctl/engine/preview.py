"""Sample grids during training: always the same latents, and no trace in the training itself."""

from __future__ import annotations

from pathlib import Path

import torch

from genctl.contracts import Samples
from genctl.data.pictures import picture, write_png
from genctl.engine.state import Training
from genctl.randomness import RandomStream


def write_preview(training: Training, folder: Path) -> Path | None:
    """Write ``step-00001000.png``; None when the model cannot sample.

    The model is put into evaluation mode with its averaged weights for the time being; the noise is
    a stream of its own, so a run with previews equals a run without.
    """
    model, config = training.model, training.config
    if not isinstance(model, Samples):
        return None
    rng = RandomStream(config.train.seed, "preview", device=training.update.device)
    generator = torch.get_rng_state()
    points = config.found is not None and config.found.kind == "points"
    n = 2500 if points else config.log.preview_rows**2
    model.eval()
    try:
        with torch.no_grad(), training.average.applied(model):
            samples = model.sample(n, rng)
    finally:
        model.train()
        torch.set_rng_state(generator)
    path = folder / f"step-{training.step:08d}.png"
    write_png(path, picture(samples.float().cpu()))
    return path
