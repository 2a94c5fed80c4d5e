"""NaN in the loss of each player of each preset: skipped and counted once, given up in the end."""

from __future__ import annotations

import functools

import pytest
import torch
from campaign import configuration
from shrinking import small

from genctl.cli.main import main
from genctl.config import presets
from genctl.config.load import load_config, to_yaml
from genctl.engine import checkpoint, loop
from genctl.engine.fit import fit
from genctl.engine.update import Updater

NAMES = list(presets.paths())
CASES = [(name, player) for name in NAMES for player in load_config(name).optim]


@pytest.fixture
def poison(monkeypatch):
    """``poison("generator", first, last)``: NaN in its losses of these updates, counted from 1."""

    def inject(player, first, last):
        original = Updater._gradients

        def gradients(self, name, loss_fn, batch):
            number = self.players[name].count + 1

            @functools.wraps(loss_fn)
            def poisoned(*arguments):
                found = loss_fn(*arguments)
                loss, metrics = found if isinstance(found, tuple) else (found, {})
                return loss * float("nan"), metrics

            bad = name == player and first <= number <= last
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
def test_from_some_update_on_the_run_is_given_up(name, player, tmp_path, poison, monkeypatch):
    monkeypatch.setattr(loop, "MOST_SKIPS", 3)
    poison(player, 2, 10**9)
    config = config_of(name, train__steps=40, train__checkpoint_every=1, train__keep=0)
    result = fit(config, None, tmp_path / "run", device="cpu")
    assert result.stopped_by == "nonfinite"
    assert result.step < 40
    assert result.last[f"nonfinite/{player}"] >= 3
    assert f"loss/{player}" in result.last["nonfinite"]
    assert checkpoint.steps(tmp_path / "run/checkpoints") == list(range(result.step))
    assert_finite(tmp_path / "run")


@pytest.mark.parametrize(("name", "player"), CASES)
def test_once_it_is_skipped_and_counted(name, player, tmp_path, poison):
    poison(player, 2, 2)
    result = fit(config_of(name, train__steps=3), None, tmp_path / "run", device="cpu")
    assert result.stopped_by == "steps"
    skipped = {key: value for key, value in result.last.items() if key.startswith("nonfinite/")}
    assert skipped == {f"nonfinite/{player}": 1}
    assert_finite(tmp_path / "run")
    # The batch was consumed and the update counted, so every clock goes on as without it.
    assert result.last[f"steps/{player}"] >= 2


def test_a_skipped_update_changes_no_weight(tmp_path, poison):
    """Nor moments: the run ends as if that update had not been asked for."""
    config = config_of("vae", train__steps=2, train__checkpoint_every=1, train__keep=0)
    poison("vae" if "vae" in config.optim else next(iter(config.optim)), 2, 2)
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
    poison(next(iter(config.optim)), 8, 10**9)
    words = ["train", "--preset", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words += ["--quiet", "--set", "log.every=10", "--set", "train.checkpoint_every=7"]
    assert main(words) == 6
    err = capsys.readouterr().err
    assert 1 <= len(err.splitlines()) <= 3
    assert "non-finite" in err
    assert f"--resume {tmp_path / 'run'}" in err
    assert "step 28" in err, "7 good steps, 20 skips"
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [7, 14, 21]
    assert_finite(tmp_path / "run")
