"""``interpolate`` as a user runs it, on a GAN, an autoencoder and toy points."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from genctl.cli.main import main
from genctl.data.ranges import to_bytes
from genctl.engine.run import open_run
from genctl.latent.interpolation import lerp, slerp
from genctl.report.walks import read_picture, write_walk
from genctl.types import DataSpec

QUICK = ["--set", "log.preview_every=0", "--device", "cpu", "--precision", "fp32", "--quiet"]
NARROW = ["--set", "model.generator.width=8", "--set", "model.discriminator.width=8"]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A GAN, a variational autoencoder and a GAN on points, each a few steps old."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENCTL_CACHE", str(folder / "cache"))
        for preset, settings in {
            "quickstart": [*NARROW, "--set", "evaluate.measures=[]"],
            "vae": ["--set", "model.encoder.width=8", "--set", "model.decoder.width=8"],
            "gan-ring": [],
        }.items():
            words = ["train", "--preset", preset, "--out", folder / preset, "--steps", 2]
            assert run(*words, *settings, *QUICK) == 0
    return folder


def walk_json(capsys, *words: object) -> dict:
    capsys.readouterr()
    assert run("interpolate", *words, "--device", "cpu", "--json") == 0
    return json.loads(capsys.readouterr().out)


def error_json(capsys, code: int, *words: object) -> dict:
    capsys.readouterr()
    assert run("interpolate", *words, "--device", "cpu", "--json") == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    return error


def test_png_is_a_grid_of_rows_and_steps(runs, tmp_path, capsys) -> None:
    out = tmp_path / "walk.png"
    result = walk_json(capsys, runs / "quickstart", "--steps", 5, "--rows", 3, "--out", out)
    assert result == {
        "run": str(runs / "quickstart"),
        "step": 2,
        "out": str(out),
        "n": 15,
        "seed": 0,
        "weights": "averaged",
    }
    # 8×8 digits are shown four times as large, with two pixels between.
    assert Image.open(out).size == (5 * 34 + 2, 3 * 34 + 2)


def test_gif_has_exactly_the_steps_even_where_frames_are_equal(runs, tmp_path, capsys) -> None:
    out = tmp_path / "walk.gif"
    walk_json(capsys, runs / "quickstart", "--steps", 7, "--rows", 2, "--out", out)
    with Image.open(out) as gif:
        assert gif.n_frames == 7
        assert gif.info["loop"] == 0
        assert gif.size == (34 + 2, 2 * 34 + 2)
    same = torch.zeros(2, 5, 1, 8, 8)
    write_walk(tmp_path / "still.gif", same)
    with Image.open(tmp_path / "still.gif") as gif:
        assert gif.n_frames == 5


def test_both_ends_are_the_decoded_ends_and_the_middle_the_walk(runs) -> None:
    opened = open_run(runs / "quickstart", "cpu")
    with torch.no_grad():
        a, b = (
            opened.model.sample_latent(4, opened.stream(7, "interpolate", e))
            for e in ("from", "to")
        )
        for kind, way in (("slerp", slerp), ("lerp", lerp)):
            frames = opened.interpolate(steps=9, rows=4, seed=7, kind=kind)
            assert frames.shape == (4, 9, 1, 8, 8)
            for i, t in ((0, 0.0), (8, 1.0), (3, 3 / 8)):
                assert torch.allclose(frames[:, i], opened.model.decode(way(a, b, t)), atol=1e-5)


def test_the_prior_chooses_the_walk(runs) -> None:
    opened = open_run(runs / "quickstart", "cpu")
    natural = {"sphere": "slerp", "flat": "lerp"}[opened.model.prior.geometry]
    chosen = opened.interpolate(steps=5, rows=2)
    assert torch.equal(chosen, opened.interpolate(steps=5, rows=2, kind=natural))
    other = "lerp" if natural == "slerp" else "slerp"
    assert not torch.equal(chosen, opened.interpolate(steps=5, rows=2, kind=other))


def test_same_seed_same_walk_whatever_the_batch_size(runs, tmp_path, capsys) -> None:
    words = (runs / "quickstart", "--steps", 4, "--rows", 5)
    for name, more in (("a", ()), ("b", ("--batch-size", 3)), ("c", ("--seed", 1))):
        walk_json(capsys, *words, "--out", tmp_path / f"{name}.png", *more)
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in "abc")
    assert abs(a - b).max() <= 1
    assert abs(a - c).max() > 1
    fewer = open_run(runs / "quickstart", "cpu").interpolate(steps=4, rows=2)
    more = open_run(runs / "quickstart", "cpu").interpolate(steps=4, rows=5)
    assert torch.allclose(fewer, more[:2], atol=1e-5)


def test_raw_weights_are_said_so(runs, tmp_path, capsys) -> None:
    words = (runs / "quickstart", "--raw-weights", "--out", tmp_path / "x.png")
    assert walk_json(capsys, *words)["weights"] == "raw"


def test_by_default_the_picture_goes_into_the_run(runs, capsys) -> None:
    out = Path(walk_json(capsys, runs / "quickstart@2", "--slerp")["out"])
    assert out.parent == runs / "quickstart" / "samples"
    assert out.is_file()


def test_between_two_pictures_through_the_encoder(runs, tmp_path, capsys) -> None:
    for name, value in (("from", 30), ("to", 220)):
        Image.new("RGB", (20, 16), (value, value, value)).save(tmp_path / f"{name}.png")
    ends = ("--from", tmp_path / "from.png", "--to", tmp_path / "to.png")
    result = walk_json(capsys, runs / "vae", *ends, "--steps", 6, "--out", tmp_path / "w.gif")
    assert result["n"] == 6
    with Image.open(tmp_path / "w.gif") as gif:
        first = next(iter(ImageSequence.Iterator(gif)))
        shown = np.asarray(first.convert("L"))[2:-2:4, 2:-2:4]
    opened = open_run(runs / "vae", "cpu")
    x = read_picture(tmp_path / "from.png", opened.spec)
    assert torch.equal(to_bytes(x), torch.full((1, 8, 8), 30, dtype=torch.uint8))
    decoded = to_bytes(opened.model.decode(opened.model.encode(x[None])))[0, 0].numpy()
    assert abs(shown.astype(int) - decoded).max() <= 1


def test_a_model_without_encoder_says_what_is_missing(runs, tmp_path, capsys) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    ends = ("--from", tmp_path / "a.png", "--to", tmp_path / "a.png")
    error = error_json(capsys, 5, runs / "quickstart", *ends)
    assert "cannot encode" in error["reason"]
    assert "vae" in error["remedy"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--from", "a.png"], 2),
        (["--from", "a.png", "--to", "b.png", "--rows", "2"], 2),
        (["--steps", "1"], 2),
        (["--out", "x.webp"], 2),
        (["--out", "folder"], 2),
        (["--from", "nowhere.png", "--to", "nowhere.png"], 4),
    ],
)
def test_mistakes_have_their_exit_code(words, code, runs, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_json(capsys, code, runs / "vae", *words)
    assert error["reason"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_none(tmp_path, capsys) -> None:
    assert error_json(capsys, 4, tmp_path / "nothing")["code"] == 4


def test_mp4_without_the_extra_is_refused_before_any_work(
    runs, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    error = error_json(capsys, 5, runs / "quickstart", "--out", tmp_path / "x.mp4")
    assert "pip install 'genctl[video]'" in error["remedy"]
    assert list(tmp_path.iterdir()) == []


def test_mp4_has_exactly_the_steps_and_their_time(tmp_path) -> None:
    av = pytest.importorskip("av", reason="the video extra is not installed")
    frames = torch.linspace(-1, 1, 7).view(1, 7, 1, 1, 1).expand(1, 7, 3, 9, 9)
    write_walk(tmp_path / "walk.mp4", frames)
    with av.open(str(tmp_path / "walk.mp4")) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert float(film.streams.video[0].average_rate) == 10.0
    assert len(shown) == 7
    middles = [int(frame[frame.shape[0] // 2, frame.shape[1] // 2, 0]) for frame in shown]
    assert middles == pytest.approx([round(255 * i / 6) for i in range(7)], abs=12)
    write_walk(tmp_path / "still.mp4", torch.zeros(1, 5, 1, 8, 8))
    with av.open(str(tmp_path / "still.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5


def test_points_walk_too(runs, tmp_path, capsys) -> None:
    for name in ("walk.png", "walk.gif"):
        words = (runs / "gan-ring", "--steps", 4, "--rows", 8, "--out", tmp_path / name)
        assert walk_json(capsys, *words)["n"] == 32
        assert Image.open(tmp_path / name).size == (500, 500)
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 4


def test_pictures_are_brought_to_the_model(tmp_path) -> None:
    gradient = np.tile(np.linspace(0, 255, 40, dtype=np.uint8), (20, 1))
    Image.fromarray(np.stack([gradient] * 3, axis=2)).save(tmp_path / "wide.png")
    for spec in (DataSpec("image", (3, 16, 16)), DataSpec("image", (1, 8, 12))):
        x = read_picture(tmp_path / "wide.png", spec)
        assert x.shape == spec.shape
        assert x.min() >= -1
        assert x.max() <= 1
        assert (x.diff(dim=2) >= 0).all()
    binary = read_picture(tmp_path / "wide.png", DataSpec("image", (1, 8, 8), levels=2))
    assert set(binary.flatten().tolist()) == {-1.0, 1.0}
