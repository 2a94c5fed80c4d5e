"""NaN in each loss of each player: skipped and counted once, given up in the end."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from campaign import configuration
from shrinking import small, unlike

from genctl.cli.main import main
from genctl.config.load import load_config, to_yaml
from genctl.engine import checkpoint, loop
from genctl.engine.fit import fit
from genctl.engine.update import Updater

NAMES = unlike("objective", "estimator")
CASES = [(name, player) for name in NAMES for player in load_config(name).optim]


@pytest.fixture
def poison(monkeypatch):
    """``poison("generator", is_bad)``: NaN in its losses of these updates, counted from 1."""

    def inject(player, is_bad):
        original = Updater._gradients

        def gradients(self, name, loss_fn, batch):
            @functools.wraps(loss_fn)
            def poisoned(*arguments):
                found = loss_fn(*arguments)
                loss, metrics = found if isinstance(found, tuple) else (found, {})
                # By a weight, so that its gradient is NaN where the loss itself is flat (hinge).
                weight = self.players[name].parameters[0]
                return loss + float("nan") * weight.sum(), metrics

            bad = name == player and is_bad(self.players[name].count + 1)
            return original(self, name, poisoned if bad else loss_fn, batch)

        monkeypatch.setattr(Updater, "_gradients", gradients)

    return inject


def config_of(name, **changes):
    return small(name, **{"train__batch_size": 4, "log__every": 1, **changes})


def assert_finite(run):
    """Every checkpoint that was kept can be used."""
    for step in checkpoint.steps(run / "checkpoints"):
        found = checkpoint.read(run / f"checkpoints/step-{step:08d}")
        for tensor in (*found.weights.values(), *found.averaged.values()):
            assert torch.isfinite(tensor).all()


def test_cases_were_found():
    assert len(CASES) >= 25


@pytest.mark.parametrize(("name", "player"), CASES)
def test_one_is_skipped_and_counted_a_lasting_one_ends_the_run(
    name, player, tmp_path, poison, monkeypatch
):
    monkeypatch.setattr(loop, "MOST_SKIPS", 3)
    poison(player, lambda update: update == 2 or update >= 6)
    config = config_of(name, train__steps=60, train__checkpoint_every=3, train__keep=0)
    result = fit(config, None, tmp_path / "run", device="cpu")
    assert result.stopped_by == "nonfinite"
    assert result.step < 60
    # Losses before are as ever, in the lasting stretch none is; a skipped update is counted as one.
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    early = [row for row in rows if 2 <= row[f"steps/{player}"] < 6]
    assert early
    assert {row[f"nonfinite/{player}"] for row in early} == {1}
    assert f"loss/{player}" not in early[-1].get("nonfinite", ()) or len(early) == 1
    assert rows[-1][f"nonfinite/{player}"] >= 4
    assert f"loss/{player}" in rows[-1]["nonfinite"]
    others = [key for key in rows[-1] if key.startswith("nonfinite/") and player not in key]
    assert not others
    kept = checkpoint.steps(tmp_path / "run/checkpoints")
    assert kept == [*range(0, result.step, 3)]
    assert_finite(tmp_path / "run")


def test_a_skipped_update_changes_no_weight(tmp_path, poison):
    """Nor moments: the run ends as if that update had not been asked for."""
    config = config_of("vae", train__steps=2, train__checkpoint_every=1, train__keep=0)
    poison(next(iter(config.optim)), lambda update: update == 2)
    fit(config, None, tmp_path / "run", device="cpu")
    one, two = (checkpoint.read(tmp_path / f"run/checkpoints/step-0000000{i}") for i in (1, 2))
    assert all(torch.equal(one.weights[key], two.weights[key]) for key in one.weights)
    moments = [key for key in one.optimisers if key.startswith("optimiser/")]
    assert moments
    assert all(torch.equal(one.optimisers[key], two.optimisers[key]) for key in moments)


def test_the_command_ends_with_6_after_20_skips_and_says_how_to_go_on(tmp_path, poison, capsys):
    """The streak is looked at where a row is written or a checkpoint is due, here at step 28."""
    config = configuration("latent variable", 200)
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(config))
    poison(next(iter(config.optim)), lambda update: update >= 8)
    words = ["train", "--preset", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words += ["--quiet", "--set", "log.every=10", "--set", "train.checkpoint_every=7"]
    assert main(words) == 6
    err = capsys.readouterr().err
    assert 1 <= len(err.splitlines()) <= 3
    assert "non-finite" in err
    assert f"--init {tmp_path / 'run'}" in err
    assert "step 28" in err, "7 good steps, 20 skips"
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [7, 14, 21]
    assert_finite(tmp_path / "run")
