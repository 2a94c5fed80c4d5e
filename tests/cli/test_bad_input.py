"""Every kind of bad input, through the command a user would type: its code, its few lines, no loss."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.cli.output import report_error
from genctl.errors import GenctlError, OutOfMemoryError, UsageError

TRAIN = [
    "train",
    "--preset",
    "dcgan",
    "--steps",
    "1",
    "--device",
    "cpu",
    "--precision",
    "fp32",
    "--quiet",
    *(
        "--set",
        "data.size=8",
        "--set",
        "model.generator.width=4",
        "--set",
        "model.discriminator.width=4",
    ),
    *("--set", "log.preview_every=0", "--set", "train.batch_size=4"),
]


def picture(path, mode="RGB", size=(12, 12), **save):
    noise = np.random.default_rng(abs(hash(path.name)) % 2**32).integers(
        0, 255, (*size[::-1], 3), np.uint8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).convert(mode).save(path, **save)


def good(folder, n=40):
    for i in range(n):
        picture(folder / f"{i}.png")
    return folder


def bomb(path, edge=30_000):
    """A valid PNG header that promises 30,000 × 30,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def attempt(data, out, capsys, *more):
    code = main([*TRAIN, "--data", str(data), "--out", str(out), *more])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    if code:
        assert 1 <= len(printed.err.strip().splitlines()) <= 3, printed.err
        assert not out.exists()
    return code, printed.err


def test_an_empty_folder(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    code, text = attempt(tmp_path / "data", tmp_path / "run", capsys)
    assert code == 4
    assert "image" in text


def test_one_image_trains(tmp_path, capsys):
    picture(tmp_path / "data/only.png")
    assert attempt(tmp_path / "data", tmp_path / "run", capsys)[0] == 0


@pytest.mark.parametrize("kind", ["text", "truncated", "empty", "bomb"])
def test_a_few_broken_files_are_skipped_many_are_refused(kind, tmp_path, capsys):
    def spoil(path):
        if kind == "text":
            path.write_text("this is no picture")
        elif kind == "truncated":
            picture(path, size=(64, 64))
            path.write_bytes(path.read_bytes()[:200])
        elif kind == "empty":
            path.write_bytes(b"")
        else:
            bomb(path)

    data = good(tmp_path / "data")
    spoil(data / "broken.png")
    assert attempt(data, tmp_path / "a", capsys)[0] == 0
    code, text = attempt(data, tmp_path / "b", capsys, "--strict-data")
    assert code == 4
    assert "broken.png" in text
    for i in range(8):
        spoil(data / f"broken {i}.png")
    code, text = attempt(data, tmp_path / "c", capsys)
    assert code == 4
    assert "9" in text


def test_unusual_but_valid_files(tmp_path, capsys):
    data = good(tmp_path / "data")
    picture(data / "cmyk.jpg", "CMYK")
    picture(data / "grey.png", "L")
    picture(data / "palette.png", "P", transparency=0)
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(data / "deep.png")
    picture(data / "Имя с пробелом.png")
    picture(data / "名前.PNG")
    frames = [Image.new("RGB", (9, 9), (i * 40, 0, 0)) for i in range(4)]
    frames[0].save(data / "moving.gif", save_all=True, append_images=frames[1:])
    (data / "folder.png").mkdir()
    (data / ".hidden.png").write_text("not looked at")
    (data / "Thumbs.db").write_text("not looked at")
    (data / "loop").symlink_to(data, target_is_directory=True)
    code, text = attempt(data, tmp_path / "run", capsys, "--strict-data")
    assert code == 0, text


def test_a_zip_with_names_that_climb_writes_nothing_outside(tmp_path, capsys):
    good(tmp_path / "src", 6)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in (tmp_path / "src").iterdir():
            archive.write(path, f"../../escaped-{path.name}")
    code, _ = attempt(tmp_path / "data.zip", tmp_path / "run", capsys)
    assert code in (0, 4)
    assert not list(tmp_path.parent.glob("escaped-*"))
    assert not list(tmp_path.glob("escaped-*"))


@pytest.mark.parametrize("spec", ["mnist:/no/such/root", "toy:rign", "mnits:/tmp", "digits@tset"])
def test_specs_that_name_nothing(spec, tmp_path, capsys):
    code, text = attempt(spec, tmp_path / "run", capsys)
    assert code in (2, 4)
    assert spec.split("@")[0].split(":")[0] in text or "rign" in text


def test_a_read_only_place(tmp_path, capsys, monkeypatch):
    """Permissions do not stop the superuser, so the refusal is the operating system's by proxy."""
    import pathlib

    real = pathlib.Path.mkdir

    def refuse(self, *args, **kwargs):
        if "run" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    code, text = attempt("digits", tmp_path / "run", capsys)
    assert code == 1
    assert "Permission denied" in text
    assert "--out" in text


def test_what_one_process_met_alone_it_says_itself(monkeypatch, capsys):
    """Mistakes that all know of, process 0 tells; of the others it never hears."""
    places = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    told = GenctlError("thing", "reason")
    told.said_by_first = True
    for error in (UsageError("thing", "reason", "remedy"), told):
        report_error(error, False)
        assert capsys.readouterr().err == ""
    report_error(GenctlError("disk", "Input/output error"), True)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: process 1: disk: Input/output error\n")
    report_error(OutOfMemoryError("memory", "not enough", "a smaller --batch-size"), False)
    assert capsys.readouterr().err == "error: process 1: memory: not enough\n"
