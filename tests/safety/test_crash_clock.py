"""Clocks that jump by hours, forth and back, under a training."""

from __future__ import annotations

import json
import os
import time

import pytest
from campaign import assert_equal_runs, configuration

from genctl.config.load import with_overrides
from genctl.engine import checkpoint
from genctl.engine.clock import Clock
from genctl.engine.fit import fit
from genctl.engine.progress import Silent

HOUR = 3600.0


class Jumping:
    """Both clocks of the system, to be moved by hand; each reading takes a millisecond."""

    def __init__(self, monkeypatch):
        self.now = 1e6
        monkeypatch.setattr(time, "monotonic", self.read)
        monkeypatch.setattr(time, "time", self.read)

    def read(self):
        self.now += 1e-3
        return self.now


class Jumps(Silent):
    """Moves the clock after certain steps."""

    def __init__(self, clock, jumps):
        self.clock, self.jumps = clock, jumps

    def advance(self, step):
        self.clock.now += self.jumps.get(step, 0.0)


def config_of(steps=12, **changes):
    config = with_overrides(configuration("latent variable", steps), {"train.keep": 0})
    return with_overrides(config, {"train.checkpoint_every": "5m", "log.every": 1, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    fit(config_of(), None, folder / "run", device="cpu")
    return folder / "run"


def seconds_of(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["seconds"] for line in lines]


@pytest.mark.parametrize(
    "jumps",
    [
        {4: -3 * HOUR},
        {4: 3 * HOUR},
        {3: -HOUR, 5: 5 * HOUR, 7: -9 * HOUR, 9: 400.0},
        {step: (-1) ** step * HOUR * step for step in range(1, 12)},
    ],
)
def test_the_run_is_the_same_and_time_never_runs_backwards(whole, tmp_path, monkeypatch, jumps):
    clock = Jumping(monkeypatch)
    result = fit(config_of(), None, tmp_path / "run", device="cpu", report=Jumps(clock, jumps))
    monkeypatch.undo()
    assert result.stopped_by == "steps"
    seconds = seconds_of(tmp_path / "run")
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0
    assert_equal_runs(whole, tmp_path / "run")
    for step in checkpoint.steps(tmp_path / "run/checkpoints"):
        place = checkpoint.locate(tmp_path / "run/checkpoints", str(step))
        assert checkpoint.read(place).state["seconds"] >= 0


def test_a_cadence_in_minutes_survives_a_jump_back(tmp_path, monkeypatch):
    """The next checkpoint is due five minutes later, not five minutes and three hours."""
    clock = Jumping(monkeypatch)
    jumps = {3: -3 * HOUR, 6: 301.0, 9: 3 * HOUR}
    fit(config_of(), None, tmp_path / "run", device="cpu", report=Jumps(clock, jumps))
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [0, 6, 9, 12]


@pytest.mark.parametrize(("jumps", "last"), [({3: -3 * HOUR, 6: 601.0}, 6), ({5: 3 * HOUR}, 5)])
def test_max_time_survives_a_jump(tmp_path, monkeypatch, jumps, last):
    clock = Jumping(monkeypatch)
    result = fit(
        config_of(),
        None,
        tmp_path / "run",
        device="cpu",
        max_seconds=600.0,
        report=Jumps(clock, jumps),
    )
    assert (result.stopped_by, result.step) == ("time", last)
    assert checkpoint.steps(tmp_path / "run/checkpoints")[-1] == last


def test_files_from_the_future_are_as_good_as_others(whole, tmp_path):
    """Nothing is decided by the date of a file."""
    fit(config_of(steps=6), None, tmp_path / "run", device="cpu")
    late = time.time() + 1000 * HOUR
    for place, _, names in os.walk(tmp_path / "run"):
        for path in (place, *(os.path.join(place, name) for name in names)):
            os.utime(path, (late, late), follow_symlinks=False)
    early = tmp_path / "run/checkpoints/step-00000000"
    os.utime(early, (late + HOUR, late + HOUR))
    fit(config_of(), None, tmp_path / "run", device="cpu", resume="latest")
    assert_equal_runs(whole, tmp_path / "run")


def test_a_clock_counts_only_forward(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock()
    counted = []
    for now[0] in (12.0, 5.0, 6.0, 6.0, 106.0, -1000.0, -999.5):
        counted.append(clock.seconds())
    assert counted == [2.0, 2.0, 3.0, 3.0, 103.0, 103.0, 103.5]
