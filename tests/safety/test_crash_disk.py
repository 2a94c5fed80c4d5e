"""A disk that is full, or may only be read: real ones, small, in a name space of their own."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from campaign import assert_equal_runs, configuration
from test_crash_every_call import make, values

from genctl.config.load import to_yaml
from genctl.data import rough
from genctl.data.decode import Decoded
from genctl.data.folder import Listing
from genctl.engine import checkpoint
from genctl.engine.log import MetricsFile


class Disk:
    """A file system in memory that only the server and its commands see."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.seen = Path(f"/proc/{server.process.pid}/root{folder}")

    def remount(self, options):
        assert self.server.call("remount", self.folder, options) is None

    def run(self, *words, **more):
        return self.server.run(*words, "--device", "cpu", **more)


@pytest.fixture
def disk(server, tmp_path):
    """Skips where the system lets nobody mount."""
    (tmp_path / "disk").mkdir()
    if not server.mounts:
        pytest.skip("no name space of one's own on this system")
    if refusal := server.call("mount_tmpfs", tmp_path / "disk", "16k"):
        pytest.skip(f"no file system can be mounted here: {refusal}")
    return Disk(server, tmp_path / "disk")


def preset(tmp_path, **changes):
    config = configuration("latent variable", 30)
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(config.model_copy(update=changes)))
    return file


def assert_short(err, *words):
    assert 1 <= len(err.splitlines()) <= 3, err
    assert all(word in err for word in words), err


def test_full_in_a_checkpoint(disk, server, tmp_path):
    """The run ends with a word; what was kept is whole, and goes on bit for bit with some space."""
    file = preset(tmp_path)
    keeping = ["--set", "train.keep=0", "--quiet"]
    assert server.run("train", "--preset", file, "--out", tmp_path / "whole", *keeping)[0] == 0
    disk.remount("size=1m")
    run = disk.folder / "run"
    often = [*keeping, "--set", "train.checkpoint_every=1"]
    code, _, err = disk.run("train", "--preset", file, "--out", run, *often)
    assert code == 1
    assert_short(err, "step-000000", "No space left", "free some space", "--resume")
    folder = disk.seen / "run/checkpoints"
    kept = checkpoint.steps(folder)
    assert len(kept) >= 3, "not full too early"
    assert kept[-1] < 30
    for step in kept:
        checkpoint.read(folder / f"step-{step:08d}")
    assert not list(folder.glob(".tmp-*"))

    assert disk.run("train", "--resume", run, *often)[0] == 1, "it is still full"
    assert checkpoint.steps(folder) == kept
    disk.remount("size=32m")
    assert disk.run("train", "--resume", run, *often)[0] == 0
    assert_equal_runs(tmp_path / "whole", disk.seen / "run")


def test_full_for_the_log(disk, server, tmp_path):
    """A log with holes is no log: the run ends too, and going on leaves none."""
    file = preset(tmp_path)
    every = ["--quiet", "--set", "log.every=1", "--set", "train.checkpoint_every=4"]
    assert server.run("train", "--preset", file, "--out", tmp_path / "whole", *every)[0] == 0
    disk.remount("size=4m")
    run = disk.folder / "run"
    filling = ["fill", disk.folder, 9, 10**9]
    slow = [*every, "--set", "train.checkpoint_every=20"]
    code, _, err = disk.run("train", "--preset", file, "--out", run, *slow, prelude=filling)
    assert code == 1
    assert_short(err, "metrics.jsonl", "No space left", "--resume")
    rows = (disk.seen / "run/metrics.jsonl").read_bytes()
    assert rows.count(b"\n") >= 8
    (disk.seen / "ballast").unlink()
    assert disk.run("train", "--resume", run, *every)[0] == 0
    assert_equal_runs(tmp_path / "whole", disk.seen / "run")


def test_full_for_a_picture(disk, tmp_path):
    """A preview is never worth a run."""
    disk.remount("size=4m")
    often = ["--set", "log.preview_every=2", "--set", "log.every=30", "--steps", 12]
    code, _, err = disk.run(
        *("train", "--preset", preset(tmp_path), "--out", disk.folder / "run", *often),
        prelude=["fill", disk.folder, 5, 9],
    )
    assert code == 0, err
    assert "warning: no preview" in err
    assert "No space left" in err
    made = sorted(path.name for path in (disk.seen / "run/samples").iterdir())
    assert made == [f"step-{step:08d}.png" for step in (2, 4, 10, 12)]


def test_full_before_the_start(disk, tmp_path):
    disk.remount("size=16k")
    words = ["train", "--preset", preset(tmp_path), "--out", disk.folder / "run", "--quiet"]
    code, _, err = disk.run(*words)
    assert code == 1
    assert_short(err, "No space left")
    disk.remount("size=4m")
    assert disk.run(*words)[0] == 0, "what the failed start left is no obstacle"


def test_read_only(disk, tmp_path):
    """Starting and going on are refused with a word; looking at a run needs no writing."""
    disk.remount("size=4m")
    words = ["train", "--preset", preset(tmp_path), "--quiet", "--out"]
    run = disk.folder / "run"
    assert disk.run(*words, run, "--steps", 4)[0] == 0
    disk.remount("ro")
    for place in (disk.folder / "new", disk.folder / "deep/er"):
        code, _, err = disk.run(*words, place)
        assert code == 1
        assert_short(err, str(place), "read-only", "--out")
    code, _, err = disk.run("train", "--resume", run, "--steps", 9)
    assert code == 1
    assert_short(err, str(run), "Read-only", "copy")

    assert disk.run("sample", run, "-n", 4, "--out", tmp_path / "x.npz")[0] == 0
    code, _, err = disk.run("sample", run, "-n", 4)
    assert code == 1
    assert_short(err, "Read-only", "--out")
    code, out, err = disk.server.run("inspect-curves", run, "--json")
    assert code == 0
    assert json.loads(out)["verdict"] == "too-short"
    assert_short(err, "warning", "Read-only", "--plot")
    code, out, err = disk.run("train", "--resume", run, "--json")
    assert code == 0, "it has its steps already"
    assert json.loads(out)["step"] == 4


def test_full_at_any_call_of_a_write(tmp_path, monkeypatch):
    """Without a mount: the old checkpoints stay, nothing else does, and the error has a name."""
    checkpoint.write(tmp_path / "c", make(1, 1))
    real, left = checkpoint._write_synced, [0]

    def writing(path, content):
        if left[0] == 0:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write_synced", writing)
    for files in range(len(checkpoint.FILES) + 1):
        left[0] = files
        with pytest.raises(OSError, match="No space") as caught:
            checkpoint.write(tmp_path / "c", make(2, 2))
        assert caught.value.filename == str(tmp_path / "c/step-00000002")
        assert values(tmp_path / "c") == {1: 1}
        assert not list((tmp_path / "c").glob(".tmp-*"))
    left[0] = 99
    checkpoint.write(tmp_path / "c", make(2, 2))
    assert values(tmp_path / "c") == {1: 1, 2: 2}


def test_an_error_of_the_log_names_it(tmp_path):
    """``/dev/full`` is the oldest full disk."""
    log = MetricsFile(Path("/dev/full"))
    if not log.path.exists():
        pytest.skip("no /dev/full")
    with pytest.raises(OSError, match="full") as caught:
        log.append({"step": 1})
    assert caught.value.filename == "/dev/full"


def test_going_on_needs_no_space_where_nothing_is_cut(tmp_path, monkeypatch):
    log = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(4):
        log.append({"step": step})
    before = log.path.stat()
    log.cut(3)
    assert log.path.stat().st_ino == before.st_ino
    log.cut(2)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [0, 1, 2]


def test_a_row_of_which_the_disk_takes_a_part_is_an_error(tmp_path, monkeypatch):
    """The system says how much it took, and complains only at the next write."""
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", 0)
    rows = rough.Rough(Listing(names=["a.png"]), (4, 4), tmp_path)
    found = Decoded(np.zeros((4, 4, 3), np.uint8), False, (4, 4))
    rows.put(0, bytes(16), found)
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, place: len(bytes(data)) // 2)
    with pytest.raises(OSError, match="No space") as caught:
        rows.put(0, bytes(16), found)
    assert str(caught.value.filename).startswith(str(tmp_path))
