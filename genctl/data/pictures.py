"""Pictures for people: grids, scatter plots, GIF and MP4 frames, written whole or not at all."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genctl.data.ranges import to_bytes
from genctl.errors import CapabilityError, UsageError
from genctl.writing import replacing

SMALLEST_TILE = 32
"""Images with a shorter edge are enlarged by a whole factor, so that 8×8 digits can be seen."""

CHANNELS = (1, 3, 4)
"""Grey, RGB, RGBA: what a picture can show."""

BACKGROUND = 255


def grid(
    images: Tensor, columns: int | None = None, padding: int = 2, scale: int = 1
) -> Image.Image:
    """Lay images out row by row on white.

    Args:
        images: ``(N, C, H, W)`` uint8 with C of 1, 3 or 4.
        columns: images in a row; by default the grid is as square as it gets.
        padding: pixels between images and around them.
        scale: whole factor by which each image is enlarged, without smoothing.

    Raises:
        ValueError: no images, another dtype or another number of channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"expected uint8 (N, C, H, W), found {images.dtype} {tuple(images.shape)}")
    n, channels, height, width = images.shape
    if n == 0 or channels not in CHANNELS:
        raise ValueError(
            f"a grid needs images with 1, 3 or 4 channels, found {tuple(images.shape)}"
        )
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    height, width = height * scale, width * scale
    sheet = np.full(
        (rows * (height + padding) + padding, columns * (width + padding) + padding, channels),
        BACKGROUND,
        dtype=np.uint8,
    )
    tiles = images.cpu().permute(0, 2, 3, 1).numpy()
    for i, tile in enumerate(tiles.repeat(scale, axis=1).repeat(scale, axis=2)):
        top = padding + (i // columns) * (height + padding)
        left = padding + (i % columns) * (width + padding)
        sheet[top : top + height, left : left + width] = tile
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def scatter(points: Tensor, reference: Tensor | None = None) -> Image.Image:
    """Points in the plane, over grey reference points when given.

    Args:
        points: ``(N, 2)``; more dimensions show their first two, one dimension a histogram.
        reference: real points of the same width; they also decide the axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = _finite_rows(points)
    real = None if reference is None else _finite_rows(reference)
    if points.shape[1] == 1:
        if real is not None:
            axes.hist(real[:, 0], bins=80, density=True, color="0.8", label="real")
        axes.hist(shown[:, 0], bins=80, density=True, histtype="step", label="model")
    else:
        if real is not None:
            axes.scatter(real[:, 0], real[:, 1], s=4, color="0.75", linewidths=0, label="real")
        axes.scatter(shown[:, 0], shown[:, 1], s=4, alpha=0.6, linewidths=0, label="model")
        frame = real if real is not None and len(real) else shown
        if len(frame):
            centre = (frame[:, :2].min(axis=0) + frame[:, :2].max(axis=0)) / 2
            half = max(1e-3, 0.65 * float(np.ptp(frame[:, :2], axis=0).max()))
            axes.set_xlim(centre[0] - half, centre[0] + half)
            axes.set_ylim(centre[1] - half, centre[1] + half)
        axes.set_aspect("equal")
    lost = len(points) - len(shown)
    axes.set_title(f"{len(shown)} points" + (f", {lost} not finite" if lost else ""))
    if real is not None:
        axes.legend(loc="upper right")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def picture(
    samples: Tensor, reference: Tensor | None = None, columns: int | None = None
) -> Image.Image:
    """What samples look like: a grid of images or a plot of points.

    Args:
        samples: ``(N, C, H, W)`` in [−1, 1], or ``(N, D)`` points.
        reference: real points to draw below; images ignore it.
        columns: images in a row.
    """
    if samples.ndim == 2:
        return scatter(samples, reference)
    return grid(to_bytes(samples), columns, scale=tile_scale(samples.shape))


def tile_scale(shape: Sequence[int]) -> int:
    """How much images of this ``(…, H, W)`` are enlarged for looking at."""
    return max(1, SMALLEST_TILE // max(1, min(shape[-2:])))


def write_png(path: str | Path, image: Image.Image) -> None:
    """Write a PNG; an interrupted write leaves what was there before."""
    with replacing(Path(path)) as partial:
        image.save(partial, format="PNG")


def write_frames(path: str | Path, frames: Sequence[Image.Image], milliseconds: int = 100) -> None:
    """Write an endless GIF or an MP4 with exactly these frames, equal neighbours included.

    Args:
        path: ends in ``.gif`` or ``.mp4``.
        frames: pictures of one size.
        milliseconds: how long each is shown; GIF counts in hundredths of a second.

    Raises:
        UsageError: another ending.
        CapabilityError: MP4 without the ``video`` extra.
    """
    path = Path(path)
    if not frames:
        raise ValueError("no frames to write")
    suffix = path.suffix.lower()
    if suffix == ".gif":
        data = gif_bytes(frames, milliseconds)
        with replacing(path) as partial:
            partial.write_bytes(data)
    elif suffix == ".mp4":
        av = require_video(str(path))
        with replacing(path) as partial:
            _write_mp4(av, partial, frames, milliseconds)
    else:
        raise UsageError(str(path), "cannot hold frames", "use a name that ends in .gif or .mp4")


def require_video(thing: str) -> Any:
    """The ``av`` module.

    Raises:
        CapabilityError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError:
        raise CapabilityError(
            thing,
            "writing MP4 needs the video extra, which is not installed",
            "pip install 'genctl[video]', or use .gif",
        ) from None


def gif_bytes(frames: Sequence[Image.Image], milliseconds: int) -> bytes:
    """A looping GIF89a with one image block for each frame, each with its own palette.

    Pillow merges a frame into an equal predecessor, which would change their number. So each frame
    is compressed alone and the blocks are joined here.
    """
    width, height = frames[0].size
    delay = max(2, round(milliseconds / 10))  # browsers treat anything faster as 100 ms
    parts = [
        b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\x00\x00\x00",
        b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00",  # loop for ever
    ]
    for frame in frames:
        if frame.size != (width, height):
            raise ValueError(f"frames differ in size: {frame.size} and {(width, height)}")
        # No transparency, disposal 1: leave in place.
        parts.append(b"\x21\xf9\x04\x04" + delay.to_bytes(2, "little") + b"\x00\x00")
        parts.append(_image_block(frame))
    return b"".join([*parts, b"\x3b"])


def _image_block(frame: Image.Image) -> bytes:
    """The image descriptor, palette and compressed pixels of one frame."""
    flat = frame if frame.mode == "L" else frame.convert("RGB").quantize(256)
    buffer = io.BytesIO()
    flat.save(buffer, format="GIF", optimize=False, interlace=0)
    data = buffer.getvalue()
    position, palette = 13, b""
    if data[10] & 0x80:
        position += _palette_length(data[10])
        palette = data[13:position]
    while data[position] == 0x21:  # extensions of the single picture
        position = _after_sub_blocks(data, position + 2)
    descriptor, flags = data[position : position + 9], data[position + 9]
    position += 10
    if flags & 0x80:
        length = _palette_length(flags)
        palette, position = data[position : position + length], position + length
    size_bits = (len(palette) // 3).bit_length() - 2
    end = _after_sub_blocks(data, position + 1)
    return descriptor + bytes([0x80 | size_bits]) + palette + data[position:end]


def _palette_length(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1)


def _after_sub_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += data[position] + 1
    return position + 1


def _write_mp4(av: Any, path: Path, frames: Sequence[Image.Image], milliseconds: int) -> None:
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(1000, milliseconds))
        # 4:2:0 chroma wants even edges.
        stream.width, stream.height = (edge + edge % 2 for edge in frames[0].size)
        stream.pix_fmt = "yuv420p"
        for image in frames:
            pixels = np.asarray(image.convert("RGB"))
            odd = ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0))
            frame = av.VideoFrame.from_ndarray(np.pad(pixels, odd, mode="edge"), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _finite_rows(points: Tensor) -> np.ndarray:
    rows = points.detach().cpu().double().numpy()
    return rows[np.isfinite(rows).all(axis=1)]
