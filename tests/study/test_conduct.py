"""Trials in processes of their own: order, failures, kills, interrupts, and one study for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from stand_in import COMMAND

SMALL = "set: {model.generator.width: 8, model.discriminator.width: 8, train.steps: 2}\n"
MEASURED = "evaluate: {measures: [modes], real: 'toy:ring'}\n"
TWO = SMALL + "runs: [gan-ring, wgan-gp-ring]\nseeds: [0, 1]\n" + MEASURED


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "out/calls.txt").read_text().splitlines()


def test_every_trial_is_trained_measured_and_collected(stand_in, study, tmp_path):
    code, found = study(TWO + "plot: {y: modes.covered}\n", "--jobs", 2)
    assert code == 0
    assert (found["runs"], found["done"], found["left"], found["failed"]) == (4, 4, 0, [])
    assert found["stopped_by"] == "end"
    assert sorted(calls(tmp_path)) == sorted(
        f"{entry}-seed-{seed} {what}"
        for entry in ("gan-ring", "wgan-gp-ring")
        for seed in (0, 1)
        for what in ("train from 0", "evaluate")
    )
    (first, _) = found["groups"]
    assert first["metrics"]["modes.covered"]["mean"] == 1.5
    assert first["metrics"]["modes.covered"]["values"] == [1.0, 2.0]
    assert (tmp_path / "out/table.csv").exists()
    assert Image.open(found["plot"]).size[0] > 300


def test_what_is_done_is_not_repeated_and_more_may_be_asked(stand_in, study, tmp_path):
    study(TWO)
    before = calls(tmp_path)
    assert study(TWO)[0] == 0
    assert calls(tmp_path) == before
    code, found = study(TWO.replace("[0, 1]", "[0, 1, 2]"))
    assert code == 0
    assert found["done"] == 6
    new = calls(tmp_path)[len(before) :]
    assert {line.split(" ")[0] for line in new} == {"gan-ring-seed-2", "wgan-gp-ring-seed-2"}


def test_other_settings_under_the_same_name_are_refused(stand_in, study, tmp_path):
    study(TWO)
    before = calls(tmp_path)
    code, found = study(TWO.replace("train.steps: 2", "train.steps: 3"))
    assert code == 2
    assert "gan-ring-seed-0: was made with other settings" in found["error"]["reason"]
    assert calls(tmp_path) == before


def test_failures_are_recorded_and_the_others_go_on(stand_in, study, tmp_path):
    text = SMALL + (
        "runs:\n"
        "  good: {preset: gan-ring}\n"
        "  diverges: {preset: gan-ring, set: {train.batch_size: 13}}\n"
        "  killed: {preset: gan-ring, set: {train.batch_size: 14}}\n"
        "  crashes: {preset: gan-ring, set: {train.batch_size: 15}}\n"
    )
    code, found = study(text + MEASURED)
    assert code == found["error"]["code"] == 1, "they failed in different ways"
    assert found["done"] == 1
    told = {fail["run"].split("-")[0]: (fail["code"], fail["reason"]) for fail in found["failed"]}
    assert told["diverges"] == (6, "non-finite numbers")
    assert told["killed"] == (1, "was killed by signal 9")
    assert told["crashes"][0] == 1
    assert "a bug" in told["crashes"][1]
    assert "3 of 4 runs failed" in found["error"]["reason"]
    # What diverged is a result; the others may have been the machine's fault, and are tried again.
    before = calls(tmp_path)
    study(text + MEASURED)
    again = {line.split("-")[0] for line in calls(tmp_path)[len(before) :]}
    assert again == {"killed", "crashes"}


def test_the_exit_code_is_that_of_failures_that_are_alike(stand_in, study):
    code, found = study(SMALL + "runs: [gan-ring]\nseeds: [0, 1]\n", "--batch-size", 13)
    assert code == found["error"]["code"] == 6
    assert len(found["failed"]) == 2


def test_a_place_that_holds_something_else_is_refused(stand_in, study, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious.txt").write_text("mine")
    assert study(TWO)[0] == 2
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious.txt"]


def test_two_conductors_of_one_study(stand_in, study, tmp_path):
    from genctl.study.directory import StudyDirectory

    study(TWO)
    with StudyDirectory(tmp_path / "out").lock():
        code, found = study(TWO)
    assert code == 2
    assert "another process" in found["error"]["reason"]


def test_a_damaged_result_is_made_again(stand_in, study, tmp_path):
    study(TWO)
    path = tmp_path / "out/results/gan-ring-seed-0.json"
    path.write_text(path.read_text()[:50])
    code, found = study(TWO)
    assert code == 0
    assert found["done"] == 4
    assert calls(tmp_path)[-2:] == ["gan-ring-seed-0 train from 5", "gan-ring-seed-0 evaluate"]


CONDUCTOR = """
import sys
from genctl.study import check, conduct
from genctl.cli.main import main
conduct.GENCTL = {stand_in!r}
check.check = lambda *_, **__: None  # seen to elsewhere; it is most of the time
sys.exit(main({words!r}))
"""


def test_ctrl_c_stops_the_children_and_it_goes_on(stand_in, study, tmp_path, monkeypatch):
    """They keep their state, and the next call begins with it."""
    monkeypatch.setenv("PAUSE", "60")

    def interrupt():
        wait_for(both_began(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, found = study(TWO, "--jobs", 2)
    thread.join()
    assert code == 130
    assert (found["stopped_by"], found["done"], found["left"]) == ("signal", 0, 4)
    goes_on(study, tmp_path, monkeypatch, calls(tmp_path))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children")
def test_killed_at_any_instant_it_goes_on(stand_in, study, tmp_path, monkeypatch):
    """The children are told that their parent is gone: they keep their state and end."""
    (tmp_path / "mine.yaml").write_text(TWO)
    words = ["study", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out"), "-j2"]
    process = subprocess.Popen(
        [sys.executable, "-c", CONDUCTOR.format(stand_in=COMMAND, words=words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PAUSE": "60"},
    )
    wait_for(both_began(tmp_path))
    process.kill()
    process.wait()
    goes_on(study, tmp_path, monkeypatch, wait_until_quiet(tmp_path))


def goes_on(study, tmp_path, monkeypatch, before):
    """Another call ends the study, from where each run was stopped."""
    monkeypatch.delenv("PAUSE", raising=False)
    code, found = study(TWO)
    assert code == 0
    assert found["done"] == 4
    later = calls(tmp_path)[len(before) :]
    for name in ("gan-ring-seed-0", "wgan-gp-ring-seed-0"):
        (begun,) = [int(line.split()[-1]) for line in later if line.startswith(f"{name} train")]
        assert 0 < begun < 5, "it went on where it was stopped"


def both_began(folder):
    marks = [folder / f"out/runs/{name}-seed-0/progress" for name in ("gan-ring", "wgan-gp-ring")]
    return lambda: all(mark.exists() and mark.read_text() for mark in marks)


def wait_for(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_quiet(tmp_path: Path) -> list[str]:
    """The calls so far, once the processes that were left behind have ended."""
    files = list((tmp_path / "out/runs").glob("*/progress"))
    while True:
        seen = [path.read_text() for path in files]
        time.sleep(0.5)
        if seen == [path.read_text() for path in files]:
            return calls(tmp_path)


def test_a_study_for_real(study, tmp_path):
    """One run that is measured, and one that diverges."""
    text = SMALL + (
        "runs:\n"
        "  good: {preset: gan-ring}\n"
        "  bad: {preset: gan-ring, set: {optim.generator.lr: 1.0e30, train.steps: 60}}\n"
        "evaluate: {measures: [modes], n: 100, features: pixels}\n"
        "plot: {y: [modes.high_quality, last/loss/generator]}\n"
    )
    code, found = study(text, "--set", "log.preview_every=0", "--jobs", 2)
    assert code == 6, found
    assert [fail["run"] for fail in found["failed"]] == ["bad-seed-0"]
    good = found["groups"][0]["metrics"]
    assert 0 <= good["modes.high_quality"]["mean"] <= 1
    assert good["modes.total"]["mean"] == 8
    assert good["step"]["mean"] == 2
