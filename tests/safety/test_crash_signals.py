"""SIGTERM, SIGINT, SIGHUP and SIGUSR1, once and twice, wherever they find the command."""

from __future__ import annotations

import json
import signal
import time

import pytest
from campaign import configuration, newest
from PIL import Image

from genctl.config.load import to_yaml
from genctl.engine import checkpoint
from genctl.engine.signals import listening

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def words(tmp_path):
    """A small training of ten steps."""
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(configuration("latent variable", 10)))
    return ["train", "--preset", file, "--out", tmp_path / "run", "--device", "cpu", "--quiet"]


@pytest.fixture
def pictures(tmp_path):
    for i in range(6):
        path = tmp_path / f"pictures/{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 40 * i).save(path)
    return path.parent


def assert_quiet_130(child, timeout=120.0):
    assert child.wait(timeout) == 130
    assert "Traceback" not in child.err
    assert len(child.err.splitlines()) <= 3


@pytest.mark.parametrize("number", STOPS)
def test_in_a_step_it_is_finished_and_kept(server, words, tmp_path, number):
    child = server.start(*words, prelude=["stall", "step", 0.3]).stalled()
    child.kill(number)
    assert_quiet_130(child)
    assert newest(tmp_path / "run") == 1
    assert server.run("train", "--resume", tmp_path / "run", "--quiet")[0] == 0


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("where", ["import", "decode"])
def test_before_the_first_step_it_ends_at_once(server, words, pictures, tmp_path, number, where):
    more = ["--json"] if number == signal.SIGINT else []
    child = server.start(*words, *more, "--data", pictures, prelude=["stall", where, 1.0])
    child.stalled().kill(number)
    assert_quiet_130(child)
    assert "interrupted" in (json.loads(child.out)["error"]["reason"] if more else child.err)
    assert not (tmp_path / "run/config.yaml").exists()


def test_in_a_write_the_checkpoint_is_finished_first(server, words, tmp_path):
    child = server.start(
        *words, "--set", "train.checkpoint_every=4", prelude=["stall", "write", 0.1]
    )
    child.stalled().kill(signal.SIGTERM)
    assert_quiet_130(child)
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [0, 4]


def test_what_a_launcher_passes_on_is_no_second_request(server, words, tmp_path):
    """A job manager signals every process, and the launcher among them its workers once more."""
    child = server.start(*words, prelude=["stall", "step", 0.5]).stalled()
    for _ in range(3):
        child.kill(signal.SIGTERM)
        time.sleep(0.02)
    assert_quiet_130(child)
    assert newest(tmp_path / "run") == 1


@pytest.mark.parametrize("where", ["step", "decode", "write"])
def test_twice_it_leaves_at_once(server, words, pictures, tmp_path, where):
    """Whatever hangs, hangs; the checkpoint before is whole."""
    data = ["--data", pictures] if where == "decode" else []
    child = server.start(*words, *data, prelude=["stall", where, 100.0]).stalled()
    child.kill(signal.SIGTERM)
    time.sleep(0.05)
    child.kill(signal.SIGINT)
    assert_quiet_130(child, timeout=60.0)
    if where != "decode":
        place = checkpoint.locate(tmp_path / "run/checkpoints")
        assert checkpoint.read(place).step == 0
    if where == "write":
        assert server.run("train", "--resume", tmp_path / "run", "--quiet")[0] == 0


@pytest.mark.parametrize("where", ["import", "decode", "step", "write"])
def test_sigusr1_saves_if_there_is_something_to_save(server, words, pictures, tmp_path, where):
    child = server.start(
        *words,
        "--data",
        pictures,
        "--steps",
        5,
        "--set",
        "train.keep=0",
        prelude=["stall", where, 0.2],
    )
    child.stalled().kill(signal.SIGUSR1)
    assert child.wait() == 0
    extra = {"step": [1]}.get(where, [])
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [0, *extra, 5]


def test_sigterm_ends_any_command_quietly(server, words, pictures):
    child = server.start("data", "inspect", pictures, prelude=["stall", "decode", 1.0])
    child.stalled().kill(signal.SIGTERM)
    assert_quiet_130(child)


def test_what_nohup_has_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as requests:
            signal.raise_signal(signal.SIGHUP)
        assert not requests.stop
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with listening() as requests:
            signal.raise_signal(signal.SIGHUP)
        assert requests.stop
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
