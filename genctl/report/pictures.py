"""Pictures of measures: the curve of prd, and generated images beside their nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genctl.data.pictures import BACKGROUND, grid, tile_scale, write_png
from genctl.errors import GenctlError, UsageError
from genctl.metrics.features.extractor import resized, with_channels
from genctl.metrics.measure import Evidence, Measure
from genctl.report.gather import Gathered
from genctl.report.sides import Examples, Sampled

DRAWN = ("prd", "memorization")
"""The measures that have a picture."""


def check(plot: Path | None, plan: Sequence[Measure]) -> None:
    """Refuse a ``--plot`` that nothing would be drawn in, before anything is computed.

    Raises:
        UsageError: no measure with a picture is taken, or the file is no PNG.
    """
    if plot is None:
        return
    if plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot}", "pictures are PNG", f"--plot {plot.stem}.png")
    if not any(measure.name in DRAWN for measure in plan):
        raise UsageError(f"--plot {plot}", "no measure here has a picture", "--prd, --memorization")


def plan(
    entries: dict[str, Any],
    found: Gathered,
    plot: Path | None,
    evidence: Evidence,
    place: str | None,
) -> dict[str, Any]:
    """The entries that will be drawn; each is told the path of its picture as ``picture``.

    Args:
        entries: of the measures, by name.
        found: the sides.
        plot: the file that was asked for.
        evidence: told of a picture that cannot be.
        place: of the result among a run's reports, where there is one: pictures lie beside it.
    """
    chosen = {}
    for name in DRAWN:
        entry = entries.get(name)
        if entry is None or "reason" in entry:
            continue
        if name == "memorization" and not _has_images(found):
            if plot is not None:
                evidence.warn("--plot: memorization has a picture only where both sides are images")
            continue
        chosen[name] = entry
    for name, entry in chosen.items():
        path = _path(name, plot, len(chosen), place)
        if path is not None:
            entry["picture"] = str(path)
    return {name: entry for name, entry in chosen.items() if "picture" in entry}


def draw(entries: Mapping[str, Any], found: Gathered, batch_size: int) -> dict[str, str]:
    """Write the pictures that were planned.

    Returns:
        Why one could not be drawn or written, by its name: a picture is not worth the numbers.
    """
    failed = {}
    for name, entry in entries.items():
        path = Path(entry["picture"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = curve(entry) if name == "prd" else neighbours(entry, found, batch_size)
            write_png(path, drawn)
        except (OSError, GenctlError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.reason
            failed[name] = f"{name}: its picture {path} was not written: {reason or error}"
    return failed


def curve(entry: Mapping[str, Any]) -> Image.Image:
    """Precision over recall, the F scores in the title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(entry["curve"]["recall"], entry["curve"]["precision"])
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="recall", ylabel="precision", aspect="equal")
    axes.set_title(f"F8 {entry['f8']:.3f}   F1/8 {entry['f1_8']:.3f}   F1 {entry['f1']:.3f}")
    axes.grid(alpha=0.3)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def neighbours(entry: Mapping[str, Any], found: Gathered, batch_size: int) -> Image.Image:
    """A row for each: the generated image, a gap, its nearest training images in order."""
    tiles: list[Tensor] = []
    for row in entry["nearest"]:
        image = _generated(found, row["generated"], batch_size)
        gap = torch.full_like(image, BACKGROUND)
        tiles += [image, gap, *(_like(_training(found, i), image) for i in row["training"])]
    return grid(torch.stack(tiles), 2 + len(entry["nearest"][0]["training"]), scale=_scale(tiles))


def _generated(found: Gathered, number: int, batch_size: int) -> Tensor:
    side = found.generated
    if isinstance(side, Sampled):  # drawn again: it is the same example, bit for bit
        batch = next(side.batches(batch_size, slice(number // batch_size, None)))
        return batch[number % batch_size].cpu()
    assert isinstance(side, Examples)
    return side.dataset.images(side.rows[number : number + 1])[0]


def _training(found: Gathered, number: int) -> Tensor:
    assert found.parts is not None
    side = found.parts.training
    assert isinstance(side, Examples)
    image = side.dataset.images(side.rows[number % len(side)].reshape(1))[0]
    return image.flip(-1) if number >= len(side) else image


def _like(image: Tensor, other: Tensor) -> Tensor:
    """Channels and size of another."""
    there = with_channels(image[None], other.shape[0])
    if there.shape[1:] == other.shape:
        return there[0]
    scaled = resized(there.float(), *other.shape[1:])
    return scaled.round().clamp(0, 255).to(torch.uint8)[0]


def _scale(tiles: Sequence[Tensor]) -> int:
    return tile_scale(tiles[0].shape)


def _has_images(found: Gathered) -> bool:
    parts = found.parts
    return (
        isinstance(found.generated, Sampled | Examples)
        and len(found.generated.shape) == 3
        and parts is not None
        and isinstance(parts.training, Examples)
    )


def _path(name: str, plot: Path | None, count: int, place: str | None) -> Path | None:
    """The file that was asked for, told apart where there are two; else beside the result."""
    if plot is not None:
        return plot if count == 1 else plot.with_name(f"{plot.stem}-{name}{plot.suffix}")
    if place is None:
        return None
    beside = Path(place)
    return beside.with_name(f"{beside.stem}-{name}.png")
