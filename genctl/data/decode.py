"""One encoded image → one uint8 array. Every mode a file can have is handled on purpose.

Rules: EXIF orientation is applied. Transparency is composited over white, as a page would show it.
16-bit samples are scaled by their full range (v/257), not cut. CMYK is converted by Pillow's plain
formula, without colour profiles. Of an animated file the first frame counts. Resizing is bicubic
with antialiasing.

A file of more than ``MAX_PIXELS`` is refused before a pixel is decoded, and large ones are decoded
one at a time. Only the formats of ``FORMATS`` are tried: Pillow would give others to outside
programs (PostScript to Ghostscript).

Only Pillow and NumPy are imported, and everything here releases the interpreter while it works.
"""

from __future__ import annotations

import functools
import io
import struct
import threading
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from genctl.printable import printable

MAX_PIXELS = 80_000_000
"""Pixels of one file; below Pillow's own limit, so that the answer is the same everywhere."""
MAX_BYTES = 256 * 2**20
"""Bytes of one encoded file."""
LARGE_PIXELS = 16_000_000
"""Larger images, with their copies, take up to 2 GB: threads wait for each other with these."""
FORMATS = (
    *("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP"),
    *("TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "ICO"),
)
SUFFIXES = frozenset(
    f".{name}"
    for names in (
        ("jpg", "jpeg", "jfif", "jpe", "png", "apng", "bmp", "dib", "gif", "webp"),
        ("tif", "tiff", "ppm", "pgm", "pbm", "pnm", "tga", "jp2", "avif", "ico"),
    )
    for name in names
)
"""File names that promise an image; anything else in a folder is not looked at."""

Crop = Literal["none", "centre", "random"]
_BACKGROUND = (255, 255, 255)
_FILTER = Image.Resampling.BICUBIC
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's plug-ins raise all of these on damaged files; a file is data, never a bug of ours.
_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    EOFError,
    ArithmeticError,
    AssertionError,
    BufferError,
    ImportError,
    MemoryError,
    struct.error,
    zlib.error,
    RuntimeError,
    AttributeError,
    Image.DecompressionBombError,
)
_one_large = threading.Lock()


class BrokenImageError(Exception):
    """The file cannot be used; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: ``(H, W, 3)`` uint8, or ``(H, W, 1)`` where every pixel is grey.
        animated: the file has more frames, which are not used.
        size: width and height before resizing, after orientation.
    """

    pixels: np.ndarray
    animated: bool
    size: tuple[int, int]


def decode(
    data: bytes,
    size: int | None = None,
    crop: Crop = "centre",
    most: int = MAX_PIXELS,
) -> Decoded:
    """Decode, orient, convert and resize an image.

    Args:
        data: the encoded file.
        size: edge of the result in pixels; None keeps the image as it is.
        crop: how an image that is not square becomes square: ``none`` squeezes it, the others cut
            the largest square from its centre.
        most: pixels that the file may have.

    Raises:
        BrokenImageError: with the reason, for anything that is not a usable image.
    """
    if not data:
        raise BrokenImageError("empty file")
    if len(data) > MAX_BYTES:
        raise BrokenImageError(f"{len(data):,} bytes, more than {MAX_BYTES:,}")
    try:
        image = _open(data, size, most)
        if image.size[0] * image.size[1] <= LARGE_PIXELS:
            return _decoded(image, size, crop, most)
        del image
        with _one_large:  # opened again, so that nothing of it outlives the lock
            return _decoded(_open(data, size, most), size, crop, most)
    except BrokenImageError:
        raise
    except _ERRORS as error:
        raise BrokenImageError(_reason(data, error)) from None


def flatten_alpha(pixels: np.ndarray) -> np.ndarray:
    """``(…, 4)`` uint8 RGBA → ``(…, 3)`` over white, rounded to nearest."""
    alpha = pixels[..., 3:].astype(np.float32) / 255.0
    mixed = pixels[..., :3] * alpha + np.float32(255.0) * (1.0 - alpha)
    return np.rint(mixed).astype(np.uint8)


def _open(data: bytes, size: int | None, most: int) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_formats())
    _check_pixels(image.size, most)
    if size is not None and image.format == "JPEG":
        # The decoder halves for free; a third more than the target keeps the resize in charge.
        least = -(-4 * size // 3)
        image.draft(None, (least, least))
    return image


def _decoded(image: Image.Image, size: int | None, crop: Crop, most: int) -> Decoded:
    with image:
        animated = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
        image.load()
        _check_pixels(image.size, most)  # an icon's picture may be larger than its entry says
        upright = _upright(image)
        plain = _resize(_to_plain(upright), size, crop)
        return Decoded(_to_array(plain), animated, upright.size)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_pixels(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BrokenImageError(f"{width} × {height} pixels")
    if width * height > most:
        raise BrokenImageError(f"{width} × {height} pixels, more than {most:,} in all")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block does not spoil a good picture."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _ERRORS:
        return image
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _to_plain(image: Image.Image) -> Image.Image:
    """Any mode → ``L`` or ``RGB``, 8 bits, opaque."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(image)
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(over, image.convert("RGBA")).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """16-bit integers by their full range; floats only where their range says what they mean."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (low >= 0.0 and high <= 1.0):
            raise BrokenImageError(f"float samples from {low:g} to {high:g}, expected 0 to 1")
        return Image.fromarray(np.rint(values * 255.0).astype(np.uint8))
    if low < 0 or high > 65535:
        raise BrokenImageError(f"integer samples from {low:g} to {high:g}, expected 0 to 65535")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _resize(image: Image.Image, size: int | None, crop: Crop) -> Image.Image:
    if size is None:
        return image
    width, height = image.size
    if crop == "none" or width == height:
        box = (0, 0, width, height)
    else:
        edge = min(width, height)
        left, top = (width - edge) // 2, (height - edge) // 2
        box = (left, top, left + edge, top + edge)
    # Cut first: resizing a box would let pixels outside of it bleed in at the edges.
    square = image if box == (0, 0, width, height) else image.crop(box)
    return square if square.size == (size, size) else square.resize((size, size), _FILTER)


def _to_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[:, :, None]
    few = pixels[::7, ::7]  # nearly always enough to see colour
    if (few[..., 0] != few[..., 1]).any() or (few[..., 0] != few[..., 2]).any():
        return pixels
    red = pixels[:, :, 0]
    if np.array_equal(red, pixels[:, :, 1]) and np.array_equal(red, pixels[:, :, 2]):
        return pixels[:, :, :1]
    return pixels


def _reason(data: bytes, error: BaseException) -> str:
    """What is wrong, in words; Pillow's own message where it says more."""
    if isinstance(error, Image.DecompressionBombError):
        size = _png_size(data)
        found = f"{size[0]} × {size[1]} pixels" if size else "too many pixels"
        return f"{found}, more than {MAX_PIXELS:,} in all"
    if isinstance(error, UnidentifiedImageError):
        head = data[:512]
        text = b"\0" not in head and sum(b < 9 for b in head) == 0
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as problem:
            text = text and problem.start > len(head) - 4
        return "not an image: it holds text" if text else "not an image of a known format"
    message = printable(str(error).split("<")[0].strip(" :") or type(error).__name__)
    lowered = message.lower()
    if "truncated" in lowered or "unexpected end" in lowered or isinstance(error, EOFError):
        return f"truncated: {message}" if not lowered.startswith("truncated") else message
    return f"cannot be decoded: {message}"


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    return None
