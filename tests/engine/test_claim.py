"""The default place of a run: one each for starts at the same moment, and nothing left of mistakes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.config.load import to_yaml
from genctl.engine.claim import claim_next_free, next_free
from genctl.engine.fit import fit
from genctl.engine.progress import Silent
from genctl.engine.run_directory import RunDirectory
from genctl.errors import UsageError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def preset(tmp_path_factory):
    file = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    file.write_text(to_yaml(small("gan-ring", train__steps=1, evaluate__measures=[])))
    return str(file)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def train(preset, *words):
    return main(["train", "--preset", preset, "--device", "cpu", "--quiet", *words])


def test_each_start_gets_a_place_of_its_own(home):
    found = []
    go = threading.Barrier(8)

    def start():
        go.wait()
        found.append(claim_next_free("x"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.directory.path.name for claim in found) == [f"x-{n}" for n in range(1, 9)]
    for claim in found:
        claim.release()
    assert names(home / "runs") == [], "no run was begun, so nothing stays"


def test_what_a_dead_start_left_is_taken_over(home):
    (home / "runs/x-1").mkdir(parents=True)
    (home / "runs/x-2/checkpoints/.tmp-step-00000000-7").mkdir(parents=True)
    (home / "runs/x-2/.lock").touch()
    (home / "runs/x-3").mkdir()
    (home / "runs/x-3/notes.txt").touch()
    assert next_free("x") == Path("runs/x-1")
    claims = [claim_next_free("x") for _ in range(3)]
    assert [claim.directory.path.name for claim in claims] == ["x-1", "x-2", "x-4"]
    for claim in claims:
        claim.release()
    assert names(home / "runs") == ["x-2", "x-3"], "what was not empty stays"


def test_a_claim_that_was_given_up_is_not_held_by_who_waited(home):
    """The lock's file was opened before it was taken away: that lock is worth nothing."""
    first = claim_next_free("x")
    place = first.directory.path / ".lock"
    real, calls = fcntl.flock, []

    def late(handle, how):
        if not calls:
            calls.append(handle)
            first.release()
        real(handle, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        handle = RunDirectory(first.directory.path).lock()
    assert os.path.samestat(place.stat(), os.fstat(handle.fileno()))
    handle.close()


def test_without_out_runs_are_numbered(home, preset, capsys):
    for n in (1, 2):
        assert train(preset, "--json") == 0
        assert json.loads(capsys.readouterr().out)["run"] == f"runs/gan-ring-{n}"
    (home / "runs/gan-ring-1/config.yaml").rename(home / "elsewhere")
    assert train(preset, "--json", "--dry-run") == 0
    assert json.loads(capsys.readouterr().out)["run"] == "runs/gan-ring-3"
    assert names(home / "runs") == ["gan-ring-1", "gan-ring-2"], "a dry run claims nothing"
    with RunDirectory(home / "runs/gan-ring-2").lock():
        pass  # begun and ended runs can be locked by whoever goes on


@pytest.mark.parametrize("words", [["--data", "nowhere"], ["--init", "nowhere"]])
def test_a_failed_start_leaves_nothing(home, preset, words):
    assert train(preset, *words) in (2, 4)
    assert names(home) == []


def test_a_place_of_ones_own_is_locked_while_it_trains(home):
    class Trying(Silent):
        def advance(self, done):
            with pytest.raises(UsageError, match="another process"):
                RunDirectory(home / "runs/gan-ring-1").lock()

    config = small("gan-ring", train__steps=1, evaluate__measures=[])
    assert fit(config, None, None, device="cpu", report=Trying()).run == Path("runs/gan-ring-1")
    RunDirectory(home / "runs/gan-ring-1").lock().close()


def test_a_file_system_without_locks_is_told_of(home, monkeypatch):
    def none(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)

    class Told(Silent):
        def __init__(self):
            self.texts = []

        def note(self, text):
            self.texts.append(text)

    config = small("gan-ring", train__steps=1, evaluate__measures=[])
    for out in (None, home / "run"):
        told = Told()
        fit(config, None, out, device="cpu", report=told)
        assert sum("has no locks" in text for text in told.texts) == 1
    claims = [claim_next_free("x") for _ in range(2)]
    assert [c.directory.path.name for c in claims] == ["x-1", "x-2"], "who made the folder has it"
