import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genctl.data.decode import MAX_PIXELS, BrokenImageError, decode, flatten_alpha
from genctl.data.tables import resize_all


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(height=6, width=9) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def noise(height, width) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header declares a size that its few bytes of data do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        out += struct.pack(">I", len(body)) + kind + body
        out += struct.pack(">I", zlib.crc32(kind + body))
    return out


def test_colour_is_kept_as_it_is():
    found = decode(encode(Image.fromarray(ramp())))
    assert np.array_equal(found.pixels, ramp())
    assert found.size == (9, 6)


def test_grey_is_one_channel_even_if_stored_as_colour():
    grey = ramp()[:, :, 0]
    for image in (Image.fromarray(grey), Image.fromarray(grey).convert("RGB")):
        assert np.array_equal(decode(encode(image)).pixels[:, :, 0], grey)
        assert decode(encode(image)).pixels.shape == (6, 9, 1)


def test_one_coloured_pixel_makes_it_colour():
    pixels = np.full((20, 20, 3), 77, np.uint8)
    pixels[3, 4] = (77, 78, 77)
    assert decode(encode(Image.fromarray(pixels))).pixels.shape == (20, 20, 3)


def test_black_and_white_bits():
    bits = np.array([[0, 255], [255, 0]], np.uint8)
    found = decode(encode(Image.fromarray(bits).convert("1"))).pixels
    assert np.array_equal(found[:, :, 0], bits)


def test_sixteen_bits_are_scaled_by_their_full_range():
    values = np.array([[0, 128, 129, 257], [32768, 65535, 65407, 1000]], np.uint16)
    found = decode(encode(Image.fromarray(values))).pixels[:, :, 0]
    assert np.array_equal(found, np.rint(values / 257.0).astype(np.uint8))
    assert found[1, 1] == 255


def test_transparency_is_composited_over_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[0, 1] = (255, 0, 0, 0)
    pixels[1, 0] = (0, 0, 0, 128)
    found = decode(encode(Image.fromarray(pixels))).pixels
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 1].tolist() == [255, 255, 255]
    assert found[1, 0].tolist() == pytest.approx([127] * 3, abs=1)
    assert np.abs(flatten_alpha(pixels).astype(int) - found).max() <= 1


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    found = decode(encode(image, transparency=0)).pixels
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 1].tolist() == [200, 100, 50]


def test_grey_with_alpha_stays_grey():
    image = Image.merge("LA", (Image.new("L", (3, 3), 40), Image.new("L", (3, 3), 255)))
    assert decode(encode(image)).pixels.tolist() == [[[40]] * 3] * 3


def test_cmyk_white_is_white_and_cyan_is_cyan():
    for ink, colour in (((0, 0, 0, 0), (255, 255, 255)), ((255, 0, 0, 0), (0, 255, 255))):
        data = encode(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)
        found = decode(data).pixels
        assert np.abs(found.astype(int) - np.array(colour)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_shows_the_picture_upright(orientation):
    upright = np.kron(
        np.array([[250, 10], [90, 170], [30, 130]], np.uint8), np.ones((16, 16), np.uint8)
    )
    # What the camera stored: the inverse of each EXIF 2.3 orientation, by NumPy.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encode(Image.fromarray(stored.copy()), "PNG", exif=exif))
    assert np.array_equal(found.pixels[:, :, 0], upright)
    assert found.size == (32, 48)


def test_animated_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    found = decode(data)
    assert found.animated
    assert found.pixels[0, 0].tolist() == [255, 0, 0]
    assert not decode(encode(frames[0], "GIF")).animated


def test_shrinking_is_antialiased():
    # Columns of black and white: an antialiased half is grey, nearest neighbour is not.
    stripes = np.tile(np.array([0, 255], np.uint8), (32, 16))
    found = decode(encode(Image.fromarray(stripes)), size=8).pixels
    assert found.shape == (8, 8, 1)
    assert np.abs(found[1:-1, 1:-1].astype(int) - 127).max() <= 2


def test_centre_crop_and_squeeze():
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 8:16] = 200
    data = encode(Image.fromarray(pixels))
    assert (decode(data, size=8, crop="centre").pixels == 200).all()
    squeezed = decode(data, size=8, crop="none").pixels[4, :, 0]
    assert squeezed[0] == 0
    assert squeezed[4] > 150


def test_arrays_are_resized_as_files_are():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 20, 28, 3), dtype=np.uint8)
    for edge in (12, 40):
        from_files = [decode(encode(Image.fromarray(image)), edge).pixels for image in images]
        from_arrays = resize_all(images, edge, "centre").transpose(0, 2, 3, 1)
        assert np.abs(np.stack(from_files).astype(int) - from_arrays).max() <= 1


def test_a_drafted_photo_is_the_photo():
    # Large JPEGs are decoded at a reduced size; the result stays near the full decode's.
    y, x = np.mgrid[0:640, 0:640] / 640
    photo = np.stack([255 * x, 255 * y, 127 + 120 * np.sin(9 * x * y)], -1).astype(np.uint8)
    data = encode(Image.fromarray(photo), "JPEG", quality=95)
    full = Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    found = decode(data, size=32).pixels
    assert np.abs(found.astype(int) - np.asarray(full)).mean() < 1.5


@pytest.mark.parametrize("side", [30_000, 9_500, 11_000])
def test_too_many_pixels_are_refused_before_decoding(side, recwarn):
    with pytest.raises(BrokenImageError, match=f"{side} × {side} pixels, more than"):
        decode(png_claiming(side, side))
    assert side * side > MAX_PIXELS


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"this is a text, renamed\n" * 9, "text"),
        ("späte Grüße\n".encode() * 60, "text"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded|not an image|truncated"),
        (bytes(range(256)), "not an image"),
        (encode(Image.fromarray(ramp(64, 64)), "JPEG")[:-400], "truncated"),
        (encode(Image.fromarray(noise(64, 64)), "PNG")[:-3000], "truncated|cannot be decoded"),
    ],
)
def test_a_broken_file_says_why(data, says):
    with pytest.raises(BrokenImageError, match=says):
        decode(data)


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_never_another_exception():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"):
        options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
        whole = bytearray(encode(image, kind, **options))
        for _ in range(60):
            hurt = bytearray(whole)
            for place in rng.integers(0, len(hurt), 6):
                hurt[place] = rng.integers(0, 256)
            hurt = hurt[: rng.integers(1, len(hurt) + 1)]
            try:
                found = decode(bytes(hurt), size=8)
            except BrokenImageError:
                continue
            assert found.pixels.shape[:2] == (8, 8)


@pytest.mark.parametrize(
    ("edge", "drafted"), [(128, False), (170, False), (172, True), (256, True)]
)
def test_a_large_jpeg_is_decoded_small_only_where_the_resize_still_decides(edge, drafted):
    """Real photographs would be nearer: a bound for the worst, edges and fine noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((edge, edge), Image.Resampling.NEAREST)).astype(float)
    noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=95)
    whole = np.asarray(Image.open(file).resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
    error = ((decode(file.getvalue(), 64).pixels - whole) ** 2).mean()
    assert (error > 0) == drafted
    assert error < 255**2 / 10**3.0  # 30 dB
