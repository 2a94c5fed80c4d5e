"""Pictures hold exactly the pixels and frames that were asked for."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from genctl.data import pictures
from genctl.errors import CapabilityError, UsageError


def numbered(n: int, channels: int = 1, height: int = 4, width: int = 6) -> torch.Tensor:
    """Image i is filled with the grey value i + 1."""
    return (torch.arange(n) + 1).to(torch.uint8).view(n, 1, 1, 1).expand(n, channels, height, width)


def test_grid_places_every_image_row_by_row() -> None:
    image = pictures.grid(numbered(5, height=4, width=6), columns=3, padding=2)
    assert image.size == (3 * 6 + 4 * 2, 2 * 4 + 3 * 2)
    pixels = np.asarray(image)
    for i in range(5):
        top, left = 2 + (i // 3) * 6, 2 + (i % 3) * 8
        assert (pixels[top : top + 4, left : left + 6] == i + 1).all()
    assert (pixels[8:12, 18:24] == 255).all()  # the sixth place is empty
    assert (pixels[:2] == 255).all()


def test_grid_is_square_by_default_and_never_wider_than_its_images() -> None:
    assert pictures.grid(numbered(9), padding=0).size == (18, 12)
    assert pictures.grid(numbered(2), columns=8, padding=0).size == (12, 4)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_grid_keeps_the_channels_in_order(channels: int, mode: str) -> None:
    images = torch.stack([torch.full((4, 4), 10 * (c + 1)) for c in range(channels)])
    image = pictures.grid(images.to(torch.uint8)[None], padding=0)
    assert image.mode == mode
    expected = 10 if channels == 1 else tuple(10 * (c + 1) for c in range(channels))
    assert image.getpixel((1, 1)) == expected


def test_grid_scale_repeats_pixels() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    pixels = np.asarray(pictures.grid(images, padding=0, scale=3))
    assert (pixels == np.kron(np.arange(4).reshape(2, 2), np.ones((3, 3)))).all()


@pytest.mark.parametrize("bad", [torch.zeros(1, 1, 2, 2), torch.zeros(0, 1, 2, 2), "two channels"])
def test_grid_refuses_what_it_cannot_show(bad: torch.Tensor | str) -> None:
    if isinstance(bad, str):
        bad = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    elif bad.shape[0] == 0:
        bad = bad.to(torch.uint8)
    with pytest.raises(ValueError, match=r"expected uint8|needs images"):
        pictures.grid(bad)


def test_picture_of_images_spans_black_to_white() -> None:
    samples = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 32, 32)
    pixels = np.asarray(pictures.picture(samples, columns=2))
    assert pixels[10, 10] == 0
    assert pixels[10, 45] == 255


def test_picture_enlarges_small_images_only() -> None:
    assert pictures.picture(torch.zeros(1, 1, 8, 8)).size == (36, 36)
    assert pictures.picture(torch.zeros(1, 1, 28, 28)).size == (32, 32)


def test_scatter_draws_and_says_how_many_points_are_not_finite() -> None:
    ring = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    clean = pictures.picture(ring, reference=ring)
    spoiled = ring.clone()
    spoiled[0] = torch.nan
    assert clean.size == (500, 500)
    assert clean.mode == "RGB"
    assert np.asarray(clean).std() > 5  # not an empty sheet
    assert pictures.picture(spoiled, reference=ring).tobytes() != clean.tobytes()
    assert pictures.scatter(torch.full((3, 2), torch.inf)).size == (500, 500)
    assert pictures.scatter(torch.randn(50, 1)).size == (500, 500)


def test_png_round_trip_and_modes(tmp_path) -> None:
    image = pictures.grid(numbered(4))
    path = tmp_path / "deep" / "grid.png"
    pictures.write_png(path, image)
    assert (np.asarray(Image.open(path)) == np.asarray(image)).all()
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]  # no temporary file is left
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failing_write_keeps_the_old_picture(tmp_path, monkeypatch) -> None:
    path = tmp_path / "grid.png"
    pictures.write_png(path, pictures.grid(numbered(4)))
    before = path.read_bytes()

    def disk_full(self, file, format) -> None:
        with open(file, "wb") as half:
            half.write(b"\x89PNG")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        pictures.write_png(path, pictures.grid(numbered(9)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]


def test_gif_keeps_equal_frames_and_their_pixels(tmp_path) -> None:
    noise = torch.randint(0, 256, (3, 1, 9, 7), generator=torch.Generator().manual_seed(0))
    shown = [pictures.grid(noise[i : i + 1].to(torch.uint8)) for i in (0, 0, 0, 1, 1, 2)]
    path = tmp_path / "walk.gif"
    pictures.write_frames(path, shown, milliseconds=120)
    with Image.open(path) as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        for frame, expected in zip(ImageSequence.Iterator(gif), shown, strict=True):
            assert frame.info["duration"] == 120
            assert (np.asarray(frame.convert("L")) == np.asarray(expected)).all()


def test_gif_of_colours_stays_close_and_of_few_colours_is_exact(tmp_path) -> None:
    # 4096 colours in a square share 256 places: cells of 16 × 16, larger where the cut is uneven.
    ramp = torch.linspace(0, 255, 64).to(torch.uint8)
    smooth = torch.stack(
        [ramp.expand(64, 64), ramp.view(64, 1).expand(64, 64), ramp.expand(64, 64)]
    )
    few = torch.tensor([[255, 0], [0, 0]]).to(torch.uint8).expand(3, 2, 2).clone()
    few[1, 0, 1] = 200
    for name, tensor, tolerance in (("smooth", smooth, 24), ("few", few, 0)):
        frames = [pictures.grid(tensor[None], padding=0)] * 3
        path = tmp_path / f"{name}.gif"
        pictures.write_frames(path, frames)
        with Image.open(path) as gif:
            assert gif.n_frames == 3
            gif.seek(2)
            error = np.asarray(gif.convert("RGB")).astype(int) - np.asarray(frames[0]).astype(int)
        assert abs(error).max() <= tolerance


def test_frames_of_different_sizes_or_endings_are_refused(tmp_path) -> None:
    a, b = pictures.grid(numbered(1)), pictures.grid(numbered(2))
    with pytest.raises(ValueError, match="differ in size"):
        pictures.write_frames(tmp_path / "x.gif", [a, b])
    with pytest.raises(ValueError, match="no frames"):
        pictures.write_frames(tmp_path / "x.gif", [])
    with pytest.raises(UsageError, match=r"x\.webp"):
        pictures.write_frames(tmp_path / "x.webp", [a, a])
    assert list(tmp_path.iterdir()) == []


def test_mp4_without_the_extra_names_the_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CapabilityError) as caught:
        pictures.write_frames(tmp_path / "walk.mp4", [pictures.grid(numbered(1))] * 2)
    assert caught.value.exit_code == 5
    assert "pip install 'genctl[video]'" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_mp4_holds_every_frame(tmp_path) -> None:
    av = pytest.importorskip("av", reason="needs the video extra")
    shades = (40, 40, 120, 200, 200)
    frames = [Image.new("L", (33, 21), shade) for shade in shades]
    path = tmp_path / "walk.mp4"
    pictures.write_frames(path, frames, milliseconds=100)
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert [frame.shape for frame in decoded] == [(22, 34)] * 5
    assert np.allclose([frame.mean() for frame in decoded], shades, atol=6)
