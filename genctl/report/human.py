"""A page that asks people: real or generated?

One picture at a time, half of them real, in an order drawn by the seed. Nothing but the picture may
tell which is which, so both sides go through the same function: one size, one number of channels,
one file format without compression, in which every picture has equally many bytes. What a picture
itself shows stays: photographs that were kept as JPEG have its traces, and may be known by them.

The page must know the answers to show a result at the end, so its key is in it: one bit a picture,
masked by a stream of pseudo-random bits. That keeps it from being read at a glance in the page's
source; whoever wants to cheat can unmask it, as with any page that works alone.

The measure and the limited time are those of HYPE (arXiv:1904.01121) and of the studies of LAPGAN
(arXiv:1506.05751, figure 5) and others: how many of the generated pictures are called real.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from genctl.engine.run import Run, open_run
from genctl.errors import DataError, UsageError
from genctl.printable import printable
from genctl.randomness import RandomStream
from genctl.report import page, sides
from genctl.report.sides import Examples, Sampled, is_run, open_examples
from genctl.types import DataSpec

DEFAULT_N = 50
MOST = 500
"""Pictures of a page; nobody answers more."""
EDGE = 128
"""Pixels of a picture's longer edge: uncompressed pictures are large."""
SHOWN = 384
"""Pixels at which a page shows small pictures, by a whole factor."""
LONGEST = 600.0  # seconds that a picture may be shown


@dataclass(frozen=True)
class Request:
    """What ``evaluate --human`` asks for.

    Attributes:
        generated: a run (``RUN``, ``RUN@step``), a folder, zip or npz of images.
        real: a data SPEC.
        n: pictures, an even number.
        seconds: how long each is shown; None without limit.
        seed: decides the samples, the real pictures and the order.
        size: edge of pictures that are read, where no run decides it.
        device: auto, cpu, cuda or mps.
        precision: number format of the run's network.
        batch_size: samples at a time.
        raw_weights: sample a run with its last weights instead of their average.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.
    """

    generated: str
    real: str
    n: int = DEFAULT_N
    seconds: float | None = None
    seed: int = 0
    size: int | Literal["native"] = "native"
    device: str = "auto"
    precision: str | None = None
    batch_size: int | None = None
    raw_weights: bool = False
    download: bool = False
    strict: bool = False


def write_human_page(request: Request, out: Path) -> dict[str, Any]:
    """Write the page.

    Returns:
        The object that ``genctl evaluate --human --json`` prints.

    Raises:
        UsageError: an odd or too large number, points instead of pictures, another file in the way.
        DataError: bad data, or too few pictures.
    """
    _check(request)
    generated, real = _sides(request)
    half = request.n // 2
    for side in (generated, real):
        if len(side) < half:
            raise DataError(
                side.name, f"{len(side)} pictures, {half} needed", f"-n {2 * len(side)}"
            )
    shape = _common_shape(generated, real)
    pictures = [
        (same_form(image, shape), is_real)
        for side, is_real in ((generated, False), (real, True))
        for image in _images(side, half, request.batch_size)
    ]
    order = RandomStream(request.seed, "human", "order").permutation(request.n).tolist()
    shown = [pictures[i] for i in order]
    digest = hashlib.sha256(b"".join([str(request.seed).encode(), *(data for data, _ in shown)]))
    identity = digest.hexdigest()[:16]
    key = masked([is_real for _, is_real in shown], identity)
    facts = {
        "page": identity,
        "generated": printable(request.generated),
        "real": printable(request.real),
        "n": request.n,
        "shown_seconds": request.seconds,
        "seed": request.seed,
    }
    height, width, channels = shape
    scale = max(1, SHOWN // max(height, width))
    text = page.render(
        "human",
        {
            "facts": facts,
            "pictures": [page.png_uri(data) for data, _ in shown],
            "key": key,
            "width": width * scale,
            "height": height * scale,
        },
    )
    page.write(out, text)
    protocol = {
        "format": f"PNG without compression, {width}x{height}, {channels} channels, both sides",
        "generated": generated.facts,
        "real": real.facts,
    }
    return {**facts, "out": str(out), "bytes": len(text.encode("utf-8")), "protocol": protocol}


def masked(truth: list[bool], identity: str) -> str:
    """One digit a picture: 1 for real, turned over where the page's own bit stream has a 1.

    The page does the same to read it. It is a mask, not a secret.
    """
    bits = zip(truth, _bit_stream(int(identity[:8], 16)), strict=False)
    return "".join(str(int(is_real) ^ bit) for is_real, bit in bits)


def same_form(image: np.ndarray, shape: tuple[int, int, int]) -> bytes:
    """A picture as the PNG that every picture of its page is.

    Args:
        image: ``(H, W, C)`` uint8, C of 1 or 3.
        shape: ``(H, W, C)`` of the page: a colour picture on a grey page becomes its luminance.
    """
    height, width, channels = shape
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.convert("L" if channels == 1 else "RGB").save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _check(request: Request) -> None:
    if not 2 <= request.n <= MOST or request.n % 2:
        near = min(MOST, max(2, request.n + request.n % 2))
        reason = f"half are real: an even number up to {MOST} is needed"
        raise UsageError(f"-n {request.n}", reason, f"-n {near}")
    if request.seconds is not None and not 0 < request.seconds <= LONGEST:
        reason = f"how long each is shown: more than 0, at most {LONGEST:.0f}"
        raise UsageError(f"--seconds {request.seconds}", reason, "--seconds 0.5")


def _sides(request: Request) -> tuple[Sampled | Examples, Examples]:
    half = request.n // 2
    run: Run | None = None
    generated: Sampled | Examples
    if is_run(request.generated):
        run = open_run(
            request.generated,
            request.device,
            raw_weights=request.raw_weights,
            precision_name=request.precision,
        )
        sides.require_native(request.size, request.generated, f"is a run of {run.spec.shape}")
        _require_pictures(request.generated, run.spec)
        generated = Sampled(run, half, request.seed)
    else:
        generated = _examples(request, request.generated, "generated")
    return generated, _examples(request, request.real, "real", run)


def _examples(request: Request, spec: str, role: str, run: Run | None = None) -> Examples:
    dataset = open_examples(
        spec, run, size=request.size, download=request.download, strict=request.strict
    )
    _require_pictures(spec, dataset.spec)
    return Examples(dataset, request.n // 2, request.seed, spec, role)


def _require_pictures(thing: str, spec: DataSpec) -> None:
    if spec.kind != "image" or len(spec.shape) != 3:
        raise UsageError(thing, "holds points, not pictures", "people judge pictures")
    if spec.shape[0] not in (1, 3):
        raise UsageError(thing, f"{spec.shape[0]} channels", "people judge grey or RGB pictures")


def _common_shape(generated: Sampled | Examples, real: Examples) -> tuple[int, int, int]:
    """The smaller of both sides in everything, ``(H, W, C)``, at most ``EDGE`` pixels."""
    channels, height, width = (min(a, b) for a, b in zip(generated.shape, real.shape, strict=True))
    factor = min(1.0, EDGE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor)), channels


def _images(side: Sampled | Examples, n: int, batch_size: int | None) -> Iterator[np.ndarray]:
    """The pictures of a side, ``(H, W, C)`` uint8 each."""
    for batch in side.batches(batch_size or 64):
        assert batch.dtype == torch.uint8
        yield from batch.permute(0, 2, 3, 1).cpu().numpy()


def _bit_stream(seed: int) -> Iterator[int]:
    """The lowest bits of mulberry32, a generator of a few lines that JavaScript has, too."""
    state = seed
    while True:
        state = (state + 0x6D2B79F5) % 2**32
        t = (state ^ state >> 15) * (state | 1) % 2**32
        t ^= (t + (t ^ t >> 7) * (t | 61)) % 2**32
        yield (t ^ t >> 14) & 1
