"""Walks through a run's latent space, as tensors and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genctl.data.decode import BrokenImageError, decode
from genctl.data.pictures import grid, require_video, scatter, tile_scale, write_frames, write_png
from genctl.data.ranges import from_bytes, from_levels, to_bytes, to_levels
from genctl.engine import precision
from genctl.engine.run import SAMPLE_BATCH, Run
from genctl.errors import DataError, UsageError
from genctl.types import DataSpec

SUFFIXES = (".png", ".gif", ".mp4")


def read_ends(run: Run, between: tuple[Path, Path]) -> Tensor:
    """Two pictures to walk between, ``(2, C, H, W)`` in [−1, 1].

    Raises:
        CapabilityError: the run's model has no encoder.
        DataError: one cannot be read.
    """
    run.require("encode")
    return torch.stack([read_picture(path, run.spec) for path in between])


@torch.no_grad()
def sweep_codes(
    run: Run, rows: int, steps: int, seed: int = 0, batch_size: int | None = None
) -> Tensor:
    """Vary each code of a run's model, all else fixed along a row.

    Args:
        run: its model has codes.
        rows: for each code, with noise of their own.
        steps: values of a code: the classes of a categorical one in turn, or an even way.
        seed: of the noise.
        batch_size: latents decoded at a time.

    Returns:
        ``(codes · rows, steps, *shape)`` on the CPU, images in [−1, 1].

    Raises:
        CapabilityError: the model has no codes.
    """
    run.require("sweep_codes")
    model: Any = run.model
    latents = model.sweep_codes(rows, steps, run.stream(seed, "sweep")).flatten(0, 1)
    with precision.computing(run.device, run.precision):
        parts = latents.flatten(0, 1).split(batch_size or SAMPLE_BATCH)
        frames = torch.cat([model.decode(part).float().cpu() for part in parts])
    return frames.unflatten(0, latents.shape[:2])


def write_walk(out: Path, frames: Tensor, milliseconds: int = 100) -> None:
    """Write a walk.

    Args:
        out: ``.png``: a grid with a walk in each row; ``.gif`` or ``.mp4``: one frame a step, which
            holds all rows.
        frames: ``(rows, steps, *shape)`` images in [−1, 1] or points.
        milliseconds: how long each frame of a film is shown.

    Raises:
        UsageError: another ending.
        CapabilityError: MP4 without the extra.
    """
    check_out(out)
    rows, steps = frames.shape[:2]
    points = frames.ndim == 3
    if out.suffix.lower() == ".png":
        flat = frames.flatten(0, 1)
        scale = 1 if points else tile_scale(frames.shape)
        write_png(
            out, scatter(flat) if points else grid(to_bytes(flat), columns=steps, scale=scale)
        )
        return
    everything = frames.flatten(0, 1)
    pictures = [
        scatter(frames[:, i], reference=everything)
        if points
        else grid(to_bytes(frames[:, i]), columns=_columns(rows), scale=tile_scale(frames.shape))
        for i in range(steps)
    ]
    write_frames(out, pictures, milliseconds)


def check_out(out: Path) -> None:
    """Refuse, before any work, a place that a walk cannot be written to.

    Raises:
        UsageError: another ending.
        CapabilityError: MP4 without the extra.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--out {out}", f"cannot write {out.suffix or 'a folder'}", "x.png, x.gif or x.mp4"
        )
    if out.suffix.lower() == ".mp4":
        require_video(str(out))


def read_picture(path: Path, spec: DataSpec) -> Tensor:
    """A picture file as the model wants it, ``(C, H, W)`` in [−1, 1].

    Raises:
        DataError: it cannot be read, or the model is not one of pictures.
    """
    if spec.kind != "image":
        raise DataError(
            str(path), "the run models points, not pictures", "leave out --from and --to"
        )
    channels, height, width = spec.shape
    try:
        pixels = decode(path.read_bytes(), height if height == width else None).pixels
    except (OSError, BrokenImageError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(str(path), reason, "give a picture file") from None
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(height, width, -1)
    if array.shape[2] != channels:
        raise DataError(str(path), f"{array.shape[2]} channels, the model has {channels}", "")
    x = from_bytes(torch.from_numpy(array.copy()).permute(2, 0, 1))
    return x if spec.levels in (0, 256) else from_levels(to_levels(x, spec.levels), spec.levels)


def _columns(rows: int) -> int:
    """A film's frame: one column up to four walks, then as square as it gets."""
    return 1 if rows <= 4 else int(np.ceil(np.sqrt(rows)))
