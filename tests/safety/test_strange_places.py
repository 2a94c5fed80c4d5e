"""Runs that were copied, named and started in ways that nobody thinks of."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import pty
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.config.load import to_yaml
from genctl.engine import checkpoint
from genctl.engine.durable import write_atomically
from genctl.engine.fit import fit
from genctl.engine.log import MetricsFile
from genctl.engine.pointers import mend, point, pointed, unpoint
from genctl.engine.run_directory import RunDirectory
from genctl.engine.schedules import Plateau
from genctl.writing import replacing


def test_a_copy_that_followed_the_links_goes_on(tmp_path):
    config = small("vae", train__steps=2)
    fit(config, None, tmp_path / "run", device="cpu")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")  # ``latest`` is now a folder
    latest = tmp_path / "copy" / "checkpoints" / "latest"
    assert latest.is_dir()
    assert not latest.is_symlink()
    shutil.copytree(latest.with_name("step-00000000"), latest.with_name("best"))
    assert checkpoint.locate(latest.parent, "best").name == "step-00000000"
    longer = small("vae", train__steps=4)
    assert fit(longer, None, tmp_path / "copy", device="cpu", resume="latest").step == 4
    assert os.readlink(latest) == "step-00000004"
    assert checkpoint.find(latest.parent).step == 4
    assert os.readlink(latest.with_name("best")) == "step-00000000"
    assert checkpoint.find(latest.parent, "best").step == 0


@pytest.mark.parametrize(
    "state", ['{"step": -1}', '{"step": true}', "[]", "{", '{"step": "x"}', None]
)
def test_what_is_no_checkpoint_in_the_place_of_a_pointer_goes(state, tmp_path):
    (tmp_path / "best").mkdir()
    if state is not None:
        (tmp_path / "best/state.json").write_text(state)
    mend(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["unreadable-best"]
    (tmp_path / "best").mkdir()
    mend(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["unreadable-best"]


def test_going_back_to_a_step_that_is_the_end_removes_nothing(tmp_path):
    fit(small("vae", train__steps=4, train__checkpoint_every=1), None, tmp_path, device="cpu")
    before = checkpoint.steps(tmp_path / "checkpoints"), (tmp_path / "metrics.jsonl").read_text()
    fit(small("vae", train__steps=1), None, tmp_path, device="cpu", resume="2")
    after = checkpoint.steps(tmp_path / "checkpoints"), (tmp_path / "metrics.jsonl").read_text()
    assert after == before


def test_closed_streams_are_nobody_elses(tmp_path):
    """With stderr closed, the next file opened would be what libraries write their warnings to."""
    command = f"{sys.executable} -m genctl presets list --json 2>&- <&-"
    done = subprocess.run(command, shell=True, capture_output=True, cwd=tmp_path, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["presets"]


def test_a_name_that_is_not_utf8_can_be_told(tmp_path):
    write_atomically(tmp_path / "note", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "note").read_text(encoding="utf-8") == "caf\\udce9"


def test_a_metric_that_is_not_finite_is_no_record_to_beat():
    rule = Plateau(metric="m", patience=2)
    for value in (math.nan, 5.0, 4.0, 3.0):
        rule.observe({"m": value})
    assert rule.state == {"factor": 1.0, "best": 3.0, "waited": 0.0}


def test_where_there_are_no_links_a_file_says_what_they_would(tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = tmp_path / "checkpoints"
    fit(small("vae", train__steps=2, train__keep=1), None, tmp_path, device="cpu")
    assert (folder / "latest").read_text() == "step-00000002"
    point(folder, "best", folder / "step-00000002")
    longer = small("vae", train__steps=4, train__keep=1)
    assert fit(longer, None, tmp_path, device="cpu", resume="latest").step == 4
    assert checkpoint.steps(folder) == [2, 4], "the best stays"
    assert checkpoint.find(folder, "best").step == 2
    unpoint(folder, "best")
    assert pointed(folder, "best") is None


def test_pointers_that_lead_elsewhere_point_nowhere(tmp_path):
    for i, content in enumerate((b"../step-00000001", b"step-1", b"\xff", b"step-00000001" * 9)):
        (tmp_path / str(i)).write_bytes(content)
        assert pointed(tmp_path, str(i)) is None
    (tmp_path / "link").symlink_to("../step-00000001")
    os.mkfifo(tmp_path / "pipe")
    assert pointed(tmp_path, "link") is pointed(tmp_path, "pipe") is None


def test_a_terminal_that_is_closed_costs_no_run(tmp_path):
    """Not the one that started it: that sends SIGHUP as well."""
    ours, its = pty.openpty()
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(small("vae", train__steps=400, log__every=1)))
    words = ["train", "--preset", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "genctl", *words], stderr=its, stdout=subprocess.DEVNULL
    ) as child:
        os.close(its)
        seen = b""
        while b"training" not in seen:  # the bar is there
            seen += os.read(ours, 4096)
        os.close(ours)
    assert child.returncode == 0
    assert checkpoint.steps(tmp_path / "run/checkpoints")[-1] == 400


def test_a_disk_that_is_full_for_messages_costs_no_run(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(small("vae", train__steps=4, log__every=1)))
    words = f"train --preset {file} --out {tmp_path}/run --device cpu --json"
    done = subprocess.run(
        f"{sys.executable} -m genctl {words} 2>/dev/full", shell=True, capture_output=True
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["step"] == 4


def test_a_result_that_cannot_be_written_is_an_error(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    done = subprocess.run(
        f"{sys.executable} -m genctl presets list >/dev/full",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    done = subprocess.run(
        f"{sys.executable} -m genctl train --preset nothing-like-it --json >/dev/full",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, "what it came to"
    assert "Traceback" not in done.stderr


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    for write in (
        lambda: write_atomically(tmp_path / "pipe.npz", "x"),
        lambda: replacing(tmp_path / "pipe.npz").__enter__(),
        lambda: replacing(tmp_path).__enter__(),
    ):
        with pytest.raises(OSError, match="is "):
            write()
    assert (tmp_path / "pipe.npz").is_fifo()


def test_a_user_without_a_home(monkeypatch, capsys, tmp_path):
    """There is no cache, and nothing else is missing."""
    monkeypatch.setenv("GENCTL_CACHE", "~nobody-of-that-name/cache")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["cache"]["writable"]
    assert any("GENCTL_CACHE" in problem for problem in found["problems"])
    monkeypatch.setattr("genctl.data.build.CACHE_FROM_FILES", 1)
    for i in range(4):
        (tmp_path / "files").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 50 * i).save(tmp_path / f"files/{i}.png")
    assert main(["data", "inspect", str(tmp_path / "files")]) == 0
    assert "stay in memory" in capsys.readouterr().err
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path))
    assert main(["data", "cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == f"{tmp_path}/data"


def test_places_that_no_run_can_have(tmp_path, capsys):
    (tmp_path / "gone").symlink_to("nowhere")
    for out, word in ((tmp_path / ("x" * 300), "too long"), (tmp_path / "gone", "nowhere")):
        assert main(["train", "--preset", "vae", "--data", "digits", "--out", str(out)]) == 2
        assert word in capsys.readouterr().err


def test_what_is_left_of_a_result_that_does_not_fit(tmp_path, monkeypatch):
    """Nothing, and the error names the user's file."""

    def full(file, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    fit(small("vae", train__steps=2), None, tmp_path / "run", device="cpu")
    monkeypatch.setattr(np, "savez_compressed", full)
    (tmp_path / "out").mkdir()
    place = tmp_path / "out/x.npz"
    errors = io.StringIO()
    with redirect_stderr(errors):
        assert main(["sample", str(tmp_path / "run"), "-n", "2", "--out", str(place)]) == 1
    assert f"error: {place}: No space left" in errors.getvalue()
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_left_of_a_log_that_could_not_be_cut(tmp_path, monkeypatch):
    log = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(3):
        log.append({"step": step})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        log.cut(1)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert log.last() == {"step": 2}


def test_the_remedy_for_numbers_that_broke(tmp_path, capsys):
    """A new run, slower, from the last good weights of the one that was stopped."""
    base = ["train", "--device", "cpu", "--quiet", "--json"]
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(small("vae", train__steps=40)))
    wild = ["--set", "optim.autoencoder.lr=1e30", "--set", "train.clip=null"]
    assert main([*base, "--preset", str(file), "--out", str(tmp_path / "a"), *wild]) == 6
    remedy = json.loads(capsys.readouterr().out)["error"]["remedy"]
    init = remedy.rpartition("--init ")[2].split()[0]
    words = ["--preset", str(file), "--out", str(tmp_path / "b"), "--init", init]
    assert main([*base, *words]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 40


def test_a_row_after_a_torn_one_is_a_row(tmp_path):
    log = MetricsFile(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    log.path.write_text(log.path.read_text() + '{"step": 2, "evalu')
    log.append({"step": 2, "evaluate/fd": 3.0})
    assert log.scores("evaluate/fd") == [(2, 3.0)]
    assert log.last() == {"step": 1}


def test_a_stop_by_a_closed_terminal_is_told_by_the_exit_code(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(small("vae", train__steps=100_000, log__every=10)))
    ours, its = pty.openpty()
    words = ["train", "--preset", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "genctl", *words],
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as child:
        os.close(its)
        seen = b""
        while b"img/s" not in seen:  # in the midst of it
            seen += os.read(ours, 4096)
        os.close(ours)
        child.send_signal(signal.SIGHUP)
    assert child.returncode == 130
    assert checkpoint.steps(tmp_path / "run/checkpoints")[-1] > 0


def test_a_library_without_streams_works(tmp_path):
    script = (
        "import sys; from genctl.printable import say; from genctl.engine.progress import Bar; "
        "say('x'); bar = Bar(); bar.start(0, 1); bar.note('x'); bar.close(); "
        "sys.stderr = open('/dev/null', 'w'); sys.stderr.close(); say('x'); print('done')"
    )
    done = subprocess.run(
        f'{sys.executable} -c "{script}" 2>&-', shell=True, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_run_that_begins_again_has_the_configuration_that_was_asked_for(tmp_path):
    fit(small("vae", train__steps=2), None, tmp_path, device="cpu")
    shutil.rmtree(tmp_path / "checkpoints")
    fit(small("vae", train__steps=3), None, tmp_path, device="cpu", resume="latest")
    assert RunDirectory(tmp_path).config().train.steps == 3


def test_the_words_of_an_error_are_kept(tmp_path):
    with pytest.raises(OSError, match="encoder error"), replacing(tmp_path / "x.png"):
        raise OSError("encoder error -2")
