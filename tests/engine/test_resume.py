"""A stopped run goes on bit for bit, one model of each paradigm; kill -9 included."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import to_yaml, with_overrides
from genctl.engine import checkpoint
from genctl.engine.ending import Ending, ending_of
from genctl.engine.fit import fit
from genctl.engine.progress import Silent
from genctl.engine.run_directory import RunDirectory

PARADIGMS = {
    "adversarial": ("began", {"data__size": 8, "data__spec": "digits"}),
    "adversarial-tricks": (
        "quickstart",
        {"model__history": 16, "model__play": {"kind": "adaptive", "discriminator": 1.3}},
    ),
    "layers-that-draw-and-couple": (
        "quickstart",
        {
            "model__generator__norm": "virtual",
            "model__discriminator__norm": "spectral",
            "model__discriminator__minibatch_kernels": 4,
            "model__discriminator__noise": 0.1,
            "model__discriminator__dropout": 0.2,
        },
    ),
    "penalty-past-augmentation-simultaneous": (
        "dragan",
        {
            "data__size": 8,
            "data__spec": "digits",
            "model__historical_averaging": 0.1,
            "model__augment": ["colour", "translation", "cutout"],
            "model__play": {"kind": "simultaneous"},
        },
    ),
    "conditional-pulling-away": (
        "ebgan",
        {"data__size": 8, "data__spec": "digits", "model__conditional": True},
    ),
    "unrolled": ("unrolled-gan-ring", {"model__unroll": 2}),
    "wgan-gp": (
        "wgan-gp",
        {"data__size": 8, "data__spec": "digits", "model__play__discriminator": 2},
    ),
    "semi-supervised": ("semi-supervised-gan-mnist", {"model__labels": 20}),
    "infogan": ("infogan", {}),
    "laplacian-pyramid": (
        "lapgan",
        {
            "data__size": 8,
            "data__spec": "digits",
            "model__penalty": {"kind": "dragan"},
            "model__augment": ["translation"],
        },
    ),
    "reinforce": ("discrete-gan-reinforce", {"model__output__baseline": "moving-average"}),
    "gumbel": ("discrete-gan-gumbel", {"model__output__anneal_steps": 8}),
    "latent": ("vae", {}),
    "autoregressive": ("pixelcnn", {}),
    "flow": ("realnvp", {}),
    "energy": ("rbm", {}),
}
"""Tricks that are resumed too, but not shot at: that takes seconds for each."""


def config_of(paradigm, **more):
    preset, changes = PARADIGMS[paradigm]
    return small(preset, **{**changes, "train__steps": 12, "log__every": 5, **more})


def rows_of(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]


def tensors_of(run):
    latest = run / "checkpoints" / "latest"
    found = {}
    for name in ("weights", "averaged", "optimisers"):
        found |= {f"{name}/{k}": v for k, v in load_file(latest / f"{name}.safetensors").items()}
    return found


def assert_equal_runs(a, b):
    assert rows_of(a) == rows_of(b)
    left, right = tensors_of(a), tensors_of(b)
    assert left.keys() == right.keys()
    assert len(left) > 3
    for key in left:
        assert torch.equal(left[key], right[key]), key
    states = [json.loads((r / "checkpoints/latest/state.json").read_text()) for r in (a, b)]
    for state in states:
        for key in ("seconds", "checksum", "sha256"):
            state.pop(key)
    assert states[0] == states[1]


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_going_on_equals_never_having_stopped(paradigm, device, tmp_path):
    """Stopped after steps 3 and 7 (between log rows, with a partial window) and resumed."""
    config = config_of(paradigm, train__deterministic=device != "cpu")
    fit(config, None, tmp_path / "whole", device=device)
    stop_at = with_overrides(config, {"train.checkpoint_every": 1})
    parts = tmp_path / "parts"
    for at in (3, 7):
        _stop_after(stop_at, parts, at, device)
    fit(stop_at, None, parts, device=device, resume="latest")
    assert_equal_runs(tmp_path / "whole", parts)


@pytest.mark.parametrize("moves", [(1, 1), (2, 1), (5, 1), (1, 5)])
def test_both_players_optimisers_counted_the_updates_asked_for(moves, tmp_path):
    """Read back from the file of the checkpoint, weight by weight, and from its state."""
    play = dict(zip(("discriminator", "generator"), moves, strict=True))
    config = small("quickstart", model__play={"kind": "fixed", **play}, train__steps=3)
    fit(config, None, tmp_path / "run", device="cpu")
    latest = tmp_path / "run/checkpoints/latest"
    optimisers = load_file(latest / "optimisers.safetensors")
    state = json.loads((latest / "state.json").read_text())
    for player, k in play.items():
        prefix = f"optimiser/{player}/"
        steps = [v for name, v in optimisers.items() if re.match(rf"{prefix}\d+/step", name)]
        assert len(steps) >= 2
        assert {int(step) for step in steps} == {3 * k}
        assert state["players"][player]["count"] == 3 * k


def _stop_after(config, out, step, device):
    """Ask for a stop, as a signal does, once the step is done."""

    class Stopper(Silent):
        def advance(self, done):
            assert ending_of(RunDirectory(out)) is None, "while it trains there is no end"
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

    resume = "latest" if (out / "config.yaml").exists() else None
    result = fit(config, None, out, device=device, resume=resume, report=Stopper())
    assert (result.stopped_by, result.step) == ("signal", step)
    assert ending_of(RunDirectory(out)) == Ending("signal", step)


def test_sigusr1_saves_and_goes_on(tmp_path):
    class Asker(Silent):
        def advance(self, done):
            if done == 5:
                os.kill(os.getpid(), signal.SIGUSR1)

    config = config_of("latent", train__keep=0)
    result = fit(config, None, tmp_path / "run", device="cpu", report=Asker())
    assert result.stopped_by == "steps"
    assert ending_of(RunDirectory(tmp_path / "run")) == Ending("steps", 12)
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [0, 5, 12]


@pytest.mark.parametrize(
    ("paradigm", "every", "first"),
    [("adversarial", 5, 8), ("latent", 5, 8), ("adversarial", 2, 3), ("energy", 2, 3)],
)
def test_extending_a_finished_run_equals_a_longer_one(paradigm, every, first, tmp_path):
    """Also where every step so far has written a row: what comes at rows only is known apart."""
    config = config_of(paradigm, log__every=every)
    fit(with_overrides(config, {"train.steps": first}), None, tmp_path / "short", device="cpu")
    fit(config, None, tmp_path / "short", device="cpu", resume="latest")
    fit(config, None, tmp_path / "long", device="cpu")
    assert rows_of(tmp_path / "short") == rows_of(tmp_path / "long")
    left, right = tensors_of(tmp_path / "short"), tensors_of(tmp_path / "long")
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_previews_leave_no_trace(tmp_path):
    config = config_of("adversarial")
    fit(config, None, tmp_path / "without", device="cpu")
    with_previews = with_overrides(config, {"log.preview_every": 3, "log.preview_rows": 2})
    fit(with_previews, None, tmp_path / "with", device="cpu")
    assert len(list((tmp_path / "with/samples").glob("step-*.png"))) == 4
    left, right = tensors_of(tmp_path / "with"), tensors_of(tmp_path / "without")
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_preview_that_fails_costs_a_picture_and_no_run(tmp_path, monkeypatch):
    class Listener(Silent):
        said: ClassVar[list[str]] = []

        def note(self, text):
            self.said.append(text)

    def broken(*_):
        raise RuntimeError("no deterministic implementation")

    monkeypatch.setattr("genctl.engine.preview.picture", broken)
    config = config_of("adversarial", log__preview_every=5, log__preview_rows=2)
    result = fit(config, None, tmp_path / "run", device="cpu", report=Listener())
    assert (result.stopped_by, result.step) == ("steps", 12)
    assert any("no preview: RuntimeError: no determ" in text for text in Listener.said)


def test_going_back_to_an_earlier_step_gives_the_same_run(tmp_path):
    config = config_of("adversarial", train__checkpoint_every=4, train__keep=0)
    fit(config, None, tmp_path / "a", device="cpu")
    fit(config, None, tmp_path / "b", device="cpu")
    fit(config, None, tmp_path / "b", device="cpu", resume="4")
    assert_equal_runs(tmp_path / "a", tmp_path / "b")


def test_kill_9_three_times_and_resume(tmp_path):
    """SIGKILL at three moments, the first before any checkpoint but that of step 0: nothing differs.

    By the command itself, which takes seconds to start; every paradigm is in tests/safety.
    """
    config = config_of("adversarial", train__steps=120, train__checkpoint_every=30)
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(config))
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "genctl", "train", "--device", "cpu", "--quiet"]
    words = ["--preset", str(file), "--out", str(run)]
    chance = random.Random("adversarial")
    for target in (5, chance.randrange(35, 50), chance.randrange(65, 100)):
        process = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, env=ENVIRONMENT)
        _wait_for_step(run, target, process)
        process.kill()
        process.wait()
        if target == 5:
            assert sorted(os.listdir(run / "checkpoints")) == ["latest", "step-00000000"]
        words = ["--resume", str(run)]
    done = subprocess.run(
        [*command, *words, "--json"], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stopped_by"] == "steps"
    whole = subprocess.run(
        [*command, "--preset", str(file), "--out", str(tmp_path / "whole")], env=ENVIRONMENT
    )
    assert whole.returncode == 0
    assert_equal_runs(tmp_path / "whole", run)


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def _wait_for_step(run, step, process):
    """Until the log has a row of this step or a later one; the process must still be running."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if lines and _step(lines[-1]) >= step:
            return
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.002)
    raise TimeoutError(f"step {step} was not reached")


def _step(line):
    try:
        return json.loads(line)["step"]
    except ValueError:  # caught in the middle of a write
        return -1
