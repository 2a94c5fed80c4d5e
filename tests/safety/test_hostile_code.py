"""Nothing that genctl reads is ever executed, through the commands that would read it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genctl.cli.main import main
from genctl.data import cache
from genctl.data.dataset import open_dataset
from genctl.data.decode import BrokenImageError, decode

STORED = Path(__file__).parent.parent / "fixtures" / "run-schema-1"


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


@pytest.fixture
def bomb(marker):
    content = pickle.dumps(Bomb(marker))
    pickle.loads(content)  # it does go off where it can
    assert marker.exists()
    marker.unlink()
    return content


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    shutil.copytree(STORED, path, symlinks=True)
    return path


def attempt(capsys, *words):
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) <= 3 or not code
    return code, printed.err


def test_the_stored_run_of_schema_1_can_be_used(run, tmp_path, capsys):
    assert attempt(capsys, "sample", run, "-n", 4, "--out", tmp_path / "x.npz")[0] == 0


@pytest.mark.parametrize("name", ["weights", "averaged", "optimisers"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_pickle_in_place_of_tensors(name, signed, run, bomb, tmp_path, capsys):
    folder = run / "checkpoints" / "step-00000025"
    (folder / f"{name}.safetensors").write_bytes(bomb)
    if signed:
        state = json.loads((folder / "state.json").read_text())
        del state["checksum"]
        state["sha256"][name] = hashlib.sha256(bomb).hexdigest()
        state["checksum"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
        (folder / "state.json").write_text(json.dumps(state))
    code, text = attempt(capsys, "sample", run, "--out", tmp_path / "x.npz")
    assert code == 4
    assert "damaged" in text


def test_a_pickle_in_place_of_the_state(run, bomb, tmp_path, capsys):
    (run / "checkpoints" / "step-00000025" / "state.json").write_bytes(bomb)
    assert attempt(capsys, "train", "--resume", run, "--steps", 30)[0] == 4
    assert attempt(capsys, "sample", run, "--out", tmp_path / "x.npz")[0] == 4


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_pickle_in_place_of_text(name, run, bomb, capsys):
    (run / name).write_bytes(bomb)
    code, _ = attempt(capsys, "inspect-curves", run)
    assert code == (0 if name == "config.yaml" else 4)  # the log alone will do
    if name == "config.yaml":
        assert attempt(capsys, "sample", run)[0] == 4


@pytest.mark.parametrize("member", ["images.npy", "images", "labels.npy"])
def test_objects_in_an_npz(member, bomb, tmp_path, capsys, marker):
    path = tmp_path / "x.npz"
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    for content in (objects.getvalue(), bomb):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, content)
        assert attempt(capsys, "data", "inspect", path)[0] == 4
        assert attempt(capsys, "evaluate", path, path)[0] == 4
    path.write_bytes(bomb)
    assert attempt(capsys, "data", "inspect", path)[0] == 4


def test_inception_weights_are_not_unpickled(bomb, marker, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
    path = tmp_path / "weights.pth"
    zipped = io.BytesIO()
    torch.save({"a": Bomb(marker)}, zipped)
    legacy = io.BytesIO()
    torch.save({"a": Bomb(marker)}, legacy, _use_new_zipfile_serialization=False)
    old = pickle.dumps(Bomb(marker), protocol=2)
    for content in (old, zipped.getvalue(), legacy.getvalue()):
        path.write_bytes(content)
        words = ["evaluate", "--fid", tmp_path / "x.npz", tmp_path / "x.npz"]
        code, text = attempt(capsys, *words, "--inception-weights", path)
        assert code == 5
        assert "weights.pth" in text


def test_pickles_of_a_named_data_set_fail_their_checksum(bomb, tmp_path, capsys):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("test_batch", "batches.meta", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(bomb)
    assert attempt(capsys, "data", "inspect", f"cifar10:{tmp_path}")[0] == 4


def test_a_pickle_in_the_cache_is_thrown_away(bomb, marker, tmp_path, monkeypatch):
    monkeypatch.setattr("genctl.data.build.CACHE_FROM_FILES", 1)
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))
    for i in range(4):
        place = tmp_path / "set" / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(place)
    open_dataset(str(tmp_path / "set"))
    entries = list(cache.cache_folder().rglob("*.npy"))
    assert entries
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb(marker)] * 4, dtype=object), allow_pickle=True)
    for content in (bomb, objects.getvalue()):
        for entry in entries:
            entry.write_bytes(content)
        assert len(open_dataset(str(tmp_path / "set"), split="all")) == 4


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch {0}']",
        "a: !!python/object/new:os.system ['touch {0}']",
        "!!python/object/apply:subprocess.check_output [[touch, {0}]]",
        "a: !!python/name:os.system",
        "a: !!python/module:antigravity",
        "%TAG ! tag:yaml.org,2002:python/\n---\na: !object/apply:os.system ['touch {0}']",
        "a: !!binary aGVsbG8=",
        "a: !!timestamp 0001-01-01T00:00:00+23:59",
    ],
)
def test_tags_in_yaml_are_refused(text, marker, tmp_path, capsys):
    path = tmp_path / "p.yaml"
    path.write_text(text.format(marker))
    code, printed = attempt(capsys, "train", "--preset", path, "--dry-run")
    assert code == 2
    assert "tag" in printed
    value = text.format(marker).removeprefix("a: ")
    assert attempt(capsys, "train", "--preset", "vae", "--set", f"about={value}", "--dry-run")[
        0
    ] in (0, 2)


def test_postscript_is_no_image(marker):
    """Pillow would start Ghostscript for it."""
    text = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch {marker}) (w) file\n"
    with pytest.raises(BrokenImageError, match="not an image"):
        decode(text.encode())


def test_nothing_of_ours_unpickles_without_weights_only():
    source = Path(main.__code__.co_filename).parent.parent
    for path in source.rglob("*.py"):
        text = path.read_text()
        assert "pickle.load" not in text, path
        assert "allow_pickle=True" not in text, path
        for call in text.split("torch.load(")[1:]:
            assert "weights_only=True" in call[:200], path
        assert not re.search(r"(?<!safe_)yaml\.load\(", text) or path.name == "safe_yaml.py", path
