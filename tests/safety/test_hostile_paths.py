"""Names of unknown origin lead nowhere: nothing is read or written outside, nothing reaches the terminal raw."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.config import presets
from genctl.config.load import load_config
from genctl.data.dataset import open_dataset
from genctl.data.describe import describe
from genctl.errors import ConfigError, DataError, GenctlError, UsageError

STORED = Path(__file__).parent.parent / "fixtures" / "run-schema-1"
CLIMBING = [
    "../../out.png", "/etc/out.png", "C:\\Windows\\out.png", "..\\..\\out.png", "a/../../../out.png",
    "//host/share/out.png", "~/out.png", "\x1b[2J\r\n/out.png",
]  # fmt: skip
TRAIN = ["--device", "cpu", "--precision", "fp32", "--quiet", "--steps", "1", "--set", "data.size=8",
         "--set", "model.generator.width=4", "--set", "model.discriminator.width=4"]  # fmt: skip


def png(shade=0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def everything(folder):
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if not p.is_symlink()}


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    shutil.copytree(STORED, path, symlinks=True)
    return path


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(CLIMBING):
            archive.writestr(name, png(i))
        for i in range(12):
            archive.writestr(f"plain/{i}.png", png(100 + i))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")


def tarred(path):
    with tarfile.open(path, "w") as archive:
        for i, name in enumerate(CLIMBING):
            info = tarfile.TarInfo(name)
            info.size = len(png(i))
            archive.addfile(info, io.BytesIO(png(i)))
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
        ):
            info = tarfile.TarInfo(f"special{kind.decode()}.png")
            info.type, info.linkname, info.devmajor, info.devminor = kind, "/etc/passwd", 1, 5
            archive.addfile(info)


@pytest.mark.parametrize(("name", "make"), [("x.zip", zipped), ("x.tar", tarred)])
def test_members_that_climb_are_only_labels(name, make, tmp_path, capsys):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    make(inner / name)
    before = everything(tmp_path)
    dataset = open_dataset(str(inner / name), split="all", size=8)
    assert len(dataset) == len(CLIMBING) + (12 if name == "x.zip" else 0)
    assert [n for n, _ in dataset.broken] == (["link.png"] if name == "x.zip" else [])
    assert everything(tmp_path) == before
    code = main(["data", "inspect", str(inner / name), "--size", "8"])
    printed = capsys.readouterr()
    assert code == 0
    assert_plain(printed.out + printed.err)


def assert_plain(text):
    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)], repr(text)


@pytest.mark.parametrize(
    "odd", ["\x1b]0;owned\x07\x1b[2J", "a\nerror: made up", "b\r\x9b31m", "x\udcff\u202egnp"]
)
def test_names_do_not_reach_the_terminal_raw(odd, tmp_path, capsys):
    folder = tmp_path / "set"
    for i, name in enumerate([odd, "plain"]):
        (folder / name).mkdir(parents=True)
        for j in range(10):
            (folder / name / f"{j}.png").write_bytes(png(20 * i + j))
    (folder / odd / f"{odd}.png").write_text("no picture")
    (folder / odd / f"{odd}.{odd}").write_text("x")
    (folder / f"{odd}.gif").symlink_to("/etc/passwd")
    assert main(["data", "inspect", str(folder)]) == 0
    printed = capsys.readouterr()
    assert_plain(printed.out + printed.err)
    assert len(open_dataset(str(folder)).spec.class_names) == 2
    assert main(["data", "inspect", str(folder), "--strict-data"]) == 4
    printed = capsys.readouterr()
    assert_plain(printed.out + printed.err)
    assert len(printed.err.strip().splitlines()) <= 3
    assert main(["data", "inspect", str(folder), "--json"]) == 0
    out = tmp_path / "run"
    words = ["train", "--preset", "dcgan", "--data", str(folder), "--out", str(out), *TRAIN]
    assert main(words) == 0, capsys.readouterr().err
    assert main(["sample", str(out), "-n", "2", "--out", str(tmp_path / "x.png")]) == 0
    printed = capsys.readouterr()
    assert_plain(printed.out + printed.err)


def test_links_out_of_the_folder_are_not_followed(tmp_path, capsys):
    """To a file, a folder, a device and a secret named like metadata; inside they are."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.png").write_bytes(png(99))
    (secret / "key.csv").write_text("PRIVATE")
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.png").write_bytes(png(i))
    (folder / "a.png").symlink_to(secret / "key.png")
    (folder / "b").symlink_to(secret, target_is_directory=True)
    (folder / "c.png").symlink_to("/dev/zero")
    (folder / "metadata.csv").symlink_to(secret / "key.csv")
    (folder / "d.png").symlink_to("../secret/key.png")
    (folder / "e.png").symlink_to("0.png")
    assert main(["data", "inspect", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "5 links lead out of the folder and were not followed" in printed.err
    assert "PRIVATE" not in printed.out + printed.err
    dataset = open_dataset(str(folder), split="all")
    assert sorted(dataset.names) == [*(f"{i}.png" for i in range(6)), "e.png"]


def test_a_pipe_named_like_metadata_is_not_waited_for(tmp_path):
    (tmp_path / "0.png").write_bytes(png())
    os.mkfifo(tmp_path / "metadata.csv")
    with pytest.raises(DataError, match="not a regular file"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    "parent",
    ["../../etc/passwd", "/etc/passwd", "../p.yaml", "sub/../../p.yaml", "~/p.yaml", "link.yaml",
     "https://example.org/p.yaml", "file:///etc/passwd", "[began]", "{a: 1}", "'\\0'", '"\\0.yaml"', "x" * 5000 + ".yaml"],
)  # fmt: skip
def test_a_preset_extends_nothing_outside_its_folder(parent, tmp_path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (tmp_path / "p.yaml").write_text("secret: value\n")
    (folder / "link.yaml").symlink_to(tmp_path / "p.yaml")
    (folder / "a.yaml").write_text(f"extends: {parent}\n")
    with pytest.raises(ConfigError, match=r"neither a preset nor a \.yaml file beside") as caught:
        load_config(str(folder / "a.yaml"))
    assert "secret" not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_a_preset_extends_a_preset_or_a_file_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    shutil.copy(presets.find("vae"), tmp_path / "sub/base.yaml")
    (tmp_path / "sub/a.yaml").write_text("extends: base.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: sub/base.yaml\n")
    (tmp_path / "c.yaml").write_text("extends: vae\n")
    for name in ("sub/a.yaml", "b.yaml", "c.yaml"):
        assert load_config(name).model == load_config("vae").model


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "../../x.yaml",
        "/etc/passwd",
        "https://example.org/x.yaml",
        "..",
        "\0",
        "a/\0.yaml",
    ],
)
def test_a_preset_that_is_no_file_of_ours_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        load_config(name)


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a\\b", "a\nb", ".", "~/x/y"])
def test_a_config_cannot_choose_where_its_run_goes(name, tmp_path, monkeypatch, capsys):
    """Without --out a run is called after its preset."""
    inner = tmp_path / "a/b/c"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    text = f"extends: dcgan\npreset: {name!r}\n".replace("'a\\nb'", '"a\\nb"')
    (inner / "p.yaml").write_text(text)
    assert main(["train", "--preset", "p.yaml", "--data", "digits", *TRAIN]) == 2
    assert "plain file name" in capsys.readouterr().err
    quoted = text.splitlines()[1].replace(": ", "=")
    assert main(["train", "--preset", "dcgan", "--set", quoted, "--data", "digits", *TRAIN]) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "c", "p.yaml"]


@pytest.mark.parametrize("link", ["latest", "best", "step-00000099"])
def test_links_in_a_run_do_not_lead_out_of_it(link, run, tmp_path, capsys):
    other = tmp_path / "other" / "step-00000099"
    shutil.copytree(run / "checkpoints" / "step-00000025", other)
    place = run / "checkpoints" / link
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(other, place.parent))
    at = "99" if link.startswith("step") else link
    code = main(["sample", f"{run}@{at}", "-n", "2", "--json", "--out", str(tmp_path / "x.npz")])
    printed = capsys.readouterr().out
    if link == "latest":  # the newest checkpoint of the run itself
        assert code == 0
        assert '"step": 25' in printed
    else:
        assert code == 4
    before = everything(other)
    words = ["--steps", "26", "--device", "cpu", "--quiet"]
    assert main(["train", "--resume", str(run), *words]) == 0, capsys.readouterr().err
    assert everything(other) == before


def test_reports_that_lead_elsewhere_get_no_picture(run, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (run / "reports").symlink_to(other, target_is_directory=True)
    assert main(["inspect-curves", str(run)]) == 0
    assert "reports lead out of the run" in capsys.readouterr().err
    assert not list(other.iterdir())


@pytest.mark.parametrize(
    "at", ["../x", "../../x", "/etc", "..", ".", "", "9" * 5000, "²", "٣", "latest/../.."]
)
def test_addresses_that_name_no_step(at, run, tmp_path, capsys):
    (run.parent / "x").mkdir()
    for command in ("sample", "inspect-curves"):
        out = ["--out", str(tmp_path / "x.npz")] if command == "sample" else []
        assert main([command, f"{run}@{at}", *out]) in (2, 4) or len(at) > 255
        assert "Traceback" not in capsys.readouterr().err


def test_a_log_of_control_characters_is_shown_plain(tmp_path, capsys):
    rows = [
        f'{{"step": {i}, "loss/\\u001b[2J$\\\\frac": {i % 3}, "_x": 1.5, "\\n": {i}}}\n'
        for i in range(20)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(rows))
    assert (
        main(["inspect-curves", str(tmp_path / "metrics.jsonl"), "--plot", str(tmp_path / "x.png")])
        == 0
    )
    printed = capsys.readouterr()
    assert_plain(printed.out + printed.err)
    assert Image.open(tmp_path / "x.png").size[0] == 1200


@pytest.mark.parametrize(
    "text", ['a: "\\e[31m"', '"\\e[2J": 1', 'about: {summary: "\\u202e"}', 'data: {spec: "\\x9b"}']
)
def test_a_preset_of_control_characters_is_refused(text, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(f"extends: dcgan\n{text}\n")
    assert main(["train", "--preset", str(tmp_path / "p.yaml"), "--dry-run"]) == 2
    assert_plain(capsys.readouterr().err)


@pytest.mark.parametrize("spec", ["a\x1b[2J", "x\ny", "\udcff", "toy:\x07", "mnist:\x9b"])
def test_a_spec_of_control_characters_is_refused(spec):
    with pytest.raises(GenctlError) as caught:
        open_dataset(spec)
    assert_plain(f"{caught.value} {caught.value.remedy}")


def test_an_npz_tells_its_names_plainly(tmp_path):
    np.savez(
        tmp_path / "x.npz", **{"\x1b[2J": np.zeros(2), **{f"k{i}": np.zeros(1) for i in range(300)}}
    )
    with pytest.raises(DataError) as caught:
        describe(open_dataset(str(tmp_path / "x.npz")))
    assert_plain(str(caught.value))
    assert len(str(caught.value)) < 600
