"""Walks through a run's latent space, as tensors and as pictures."""

from __future__ import annotations

from pathlib import Path

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
from genctl.latent.interpolation import WalkKind, kind_for, walk
from genctl.types import DataSpec

SUFFIXES = (".png", ".gif", ".mp4")


@torch.no_grad()
def walk_run(
    run: Run,
    *,
    steps: int = 10,
    rows: int = 6,
    seed: int = 0,
    kind: WalkKind | None = None,
    between: tuple[Path, Path] | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Decode evenly spaced latents between pairs of ends.

    Args:
        run: an open run whose model has a latent space.
        steps: frames of a walk, both ends included.
        rows: walks, between independent draws of the prior; 1 when ``between`` is given.
        seed: of the ends.
        kind: ``slerp`` or ``lerp``; by default what suits the model's prior.
        between: two pictures to walk between, through the model's encoder.
        batch_size: latents decoded at a time.

    Returns:
        ``(rows, steps, *shape)`` on the CPU, images in [−1, 1].

    Raises:
        CapabilityError: the model has no latent space, or no encoder for ``between``.
        DataError: an end cannot be read.
    """
    run.require("interpolate")
    if between is not None:
        run.require("encode")
        ends = torch.stack([read_picture(path, run.spec) for path in between]).to(run.device)
        with precision.autocast(run.device, run.precision):
            a, b = run.model.encode(ends).float().split(1)  # type: ignore[operator]
    else:
        a, b = (
            run.model.sample_latent(rows, run.stream(seed, "interpolate", end))  # type: ignore[operator]
            for end in ("from", "to")
        )
    shape = a.shape[1:]
    kind = kind or kind_for(getattr(getattr(run.model, "prior", None), "geometry", None))
    latents = walk(a.flatten(1), b.flatten(1), steps, kind).flatten(0, 1).unflatten(1, shape)
    parts = []
    for part in latents.split(batch_size or SAMPLE_BATCH):
        with precision.autocast(run.device, run.precision):
            parts.append(run.model.decode(part).float().cpu())  # type: ignore[operator]
    return torch.cat(parts).unflatten(0, (len(a), steps))


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
