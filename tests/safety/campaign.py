"""Kills a training at random instants and checks, after each, that nothing was lost.

The command is the one a cluster repeats: ``genctl train … --resume-or-start``. However often it is
killed, what stands at the end must be, bit for bit, what a run without kills and with hardly any
checkpoints leaves behind.
"""

from __future__ import annotations

import json
import time
from collections import Counter

import torch
from shrinking import small

from genctl.config.load import to_yaml
from genctl.engine import checkpoint

CLASSES = {
    "adversarial, BEGAN": ("began", {"data__size": 8, "data__spec": "digits"}),
    "adversarial, history and adaptive play": (
        "quickstart",
        {
            "model__history": 16,
            "model__play": {"kind": "adaptive", "discriminator": 1.3},
            "evaluate__measures": [],
        },
    ),
    "latent variable": ("vae", {}),
    "autoencoder": ("denoising-ae", {}),
    "autoregressive": ("pixelcnn", {}),
    "flow": ("realnvp-moons", {}),
    "Boltzmann machine": ("rbm", {}),
    "classifier": ("classifier", {}),
    "information": ("infogan", {"data__size": 8}),
    "few labels": ("semi-supervised-gan", {"data__size": 8, "data__spec": "digits"}),
    "pyramid": ("lapgan", {"data__size": 8, "data__spec": "digits"}),
    "discrete": ("discrete-gan-reinforce", {}),
    "toy, points": ("gan-ring", {"evaluate__measures": []}),
}
"""One preset or two for each algorithm class, with what makes them small."""


def configuration(name, steps):
    preset, changes = CLASSES[name]
    return small(preset, **{"train__steps": steps, "log__every": 3, **changes})


class Campaign:
    """Runs of one configuration under fire.

    Args:
        server: runs the commands.
        folder: for the runs.
        name: of the class.
        steps: length of the run.
        every: steps between checkpoints of the killed run.
    """

    def __init__(self, server, folder, name, steps, every):
        self.server, self.folder, self.every = server, folder, every
        folder.mkdir(parents=True)
        file = folder / "configuration.yaml"
        file.write_text(to_yaml(configuration(name, steps)))
        self.words = ["train", "--preset", file, "--device", "cpu", "--quiet", "--resume-or-start"]
        self.counts = Counter()
        began = time.monotonic()
        code, _, err = server.run(*self.words, "--out", folder / "whole", timeout=900)
        self.seconds = time.monotonic() - began
        assert code == 0, err
        self.rows = rows_of(folder / "whole")

    def kill(self, times, chance, earliest=0.0, latest=0.8):
        """Kill a run this often, as many runs as it takes, and compare every one of them.

        ``earliest`` and ``latest`` are shares of the time that a whole run takes.
        """
        while self.counts["kills"] < times:
            self.counts["runs"] += 1
            run = self.folder / f"killed-{self.counts['runs']}"
            code = None
            while code != 0:
                rest = self.counts["kills"] < times
                instant = self.seconds * chance.uniform(earliest, latest)
                code = self._life(run, instant if rest else None)
                if rest and code == 0:  # it ended before it was hit: the first run was slow
                    self.seconds *= 0.8
            assert_equal_runs(self.folder / "whole", run)

    def _life(self, run, seconds):
        before = newest(run)
        child = self.server.start(
            *self.words, "--out", run, "--set", f"train.checkpoint_every={self.every}"
        )
        if seconds is None:
            code = child.wait(300)
        else:
            time.sleep(seconds)
            child.kill()
            code = child.wait()
        assert code in (0, -9), child.err
        if code == -9:
            self._look(run, before)
        return code

    def _look(self, run, before):
        """What a kill left: every checkpoint whole, none lost, the log complete up to the newest."""
        self.counts["kills"] += 1
        folder = run / "checkpoints"
        if any(folder.glob(".tmp-step-*")):
            self.counts["during a checkpoint's write"] += 1
        elif any(folder.glob(".tmp-*")):
            self.counts["during a link or a removal"] += 1
        if not (run / "config.yaml").exists():
            assert not before, "a run that was begun is gone"
            self.counts["before it was a run"] += 1
            return
        after = newest(run)
        assert after is not None, "a run without any checkpoint"
        assert before is None or after >= before, f"step {before} was there, now it is {after}"
        for step in checkpoint.steps(folder):
            assert checkpoint.read(checkpoint.locate(folder, str(step))).step == step
        found = rows_of(run)
        wanted = [row for row in self.rows if row["step"] <= after]
        assert found[: len(wanted)] == wanted
        if found:
            due = (found[-1]["step"] - 1) // self.every * self.every
            assert after >= due, f"step {found[-1]['step']} was logged, step {due} not kept"


def newest(run):
    known = checkpoint.steps(run / "checkpoints")
    return known[-1] if known else None


def rows_of(run):
    """The complete rows of a log, without what depends on the clock."""
    file = run / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]


def assert_equal_runs(a, b):
    """Weights, averages, moments, generators, counts and the log: bit for bit."""
    assert rows_of(a) == rows_of(b)
    left, right = (checkpoint.read(checkpoint.locate(run / "checkpoints")) for run in (a, b))
    for name in checkpoint.FILES:
        mine, other = getattr(left, name), getattr(right, name)
        assert mine.keys() == other.keys()
        for key in mine:
            assert torch.equal(mine[key], other[key]), f"{name}: {key}"
    assert left.weights
    states = [{k: v for k, v in c.state.items() if k != "seconds"} for c in (left, right)]
    assert states[0] == states[1]
