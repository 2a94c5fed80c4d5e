"""Two ranks with half the batch each equal one rank with the whole batch."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import ranks
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import to_yaml, with_overrides
from genctl.engine.fit import fit

STEPS = 6
PARADIGMS = {
    "boundary-equilibrium": ("began", {"data__size": 8, "data__spec": "digits"}),
    "batch-norm": ("dcgan", {"data__size": 8, "data__spec": "digits"}),
    "history-and-adaptive": (
        "quickstart",
        {"model__history": 24, "model__play": {"kind": "adaptive", "discriminator": 1.3}},
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
    # By plain descent, as "flow" below and for its reason.
    "conditional-pulling-away": (
        "ebgan",
        {
            "data__size": 8,
            "data__spec": "digits",
            "model__conditional": True,
            "optim__discriminator": {"kind": "sgd", "lr": 0.1},
            "optim__generator": {"kind": "sgd", "lr": 0.1},
        },
    ),
    # Of 16 pixels, so that the discriminator has batch norm.
    "unrolled": (
        "unrolled-gan",
        {"data__size": 16, "data__spec": "digits", "model__unroll": 2},
    ),
    "wasserstein-penalty": ("wgan-gp", {"data__size": 8, "data__spec": "digits"}),
    "semi-supervised": ("semi-supervised-gan-mnist", {"model__labels": 20}),
    "few-labels": ("semi-supervised-gan-mnist-baseline", {"model__labels": 20}),
    "infogan": ("infogan", {"data__size": 16}),
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
    "reinforce-and-noise": ("discrete-gan-reinforce", {"model__discriminator__noise": 0.5}),
    "gumbel": ("discrete-gan-gumbel", {}),
    "embedding": ("discrete-gan-embedding", {}),
    "latent": ("vae", {}),
    "autoencoder": ("denoising-ae", {}),
    "autoregressive": ("pixelcnn", {}),
    # Without Adam, which turns the rounding of a gradient that is nearly zero into a whole step.
    "flow": ("realnvp", {"optim__density": {"kind": "sgd", "lr": 0.01}}),
    "energy": ("rbm", {}),
    "classifier": ("classifier", {}),
}


def config_of(paradigm):
    preset, changes = PARADIGMS[paradigm]
    averages = {"ema__half_life_images": 20.0}
    return small(preset, **{**changes, **averages, "train__steps": STEPS, "log__every": 3})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every paradigm trained by one process and by two; and begun by two, ended by one."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs, halves = {}, {}
    for name in PARADIGMS:
        file = folder / f"{name}.yaml"
        file.write_text(to_yaml(config_of(name)))
        jobs[f"two-{name}"] = {"preset": str(file)}
        halves[f"begun-{name}"] = {"preset": str(file), "changes": {"train.steps": 3}}
    ranks.train_all({**jobs, **halves}, folder)
    for name in PARADIGMS:
        fit(config_of(name), None, folder / f"one-{name}", device="cpu")
        fit(config_of(name), None, folder / f"begun-{name}", device="cpu", resume="latest")
    return folder


def tensors_of(run, kind):
    return load_file(run / "checkpoints" / "latest" / f"{kind}.safetensors")


def rows_of(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("other", ["two", "begun"])
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_two_ranks_equal_one(paradigm, other, runs):
    one, two = runs / f"one-{paradigm}", runs / f"{other}-{paradigm}"
    for kind in ("weights", "averaged"):
        left, right = tensors_of(one, kind), tensors_of(two, kind)
        assert left.keys() == right.keys()
        for key in left:
            assert torch.allclose(left[key].float(), right[key].float(), rtol=1e-4, atol=2e-5), key
    for mine, theirs in zip(rows_of(one), rows_of(two), strict=True):
        for key in mine:
            if not key.startswith("seconds") and key not in ("diversity", "pseudo_likelihood"):
                assert theirs[key] == pytest.approx(mine[key], rel=2e-3, abs=2e-4), key


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_the_weights_moved_and_everything_was_compared(paradigm, runs):
    """Equality of what never moved would prove nothing."""
    moved = rows_of(runs / f"two-{paradigm}")
    assert [row["step"] for row in moved] == [1, 3, 6]
    state = json.loads((runs / f"two-{paradigm}/checkpoints/latest/state.json").read_text())
    assert state["ranks"] == 2
    norms = [row[key] for row in moved for key in row if key.startswith("grad_norm/")]
    assert min(norms) > 0


def test_a_log_window_that_a_stop_cut_is_that_of_all_ranks(tmp_path):
    """Two stop between two rows, one goes on: the next row is the mean over both halves."""
    file = tmp_path / "latent.yaml"
    file.write_text(to_yaml(config_of("latent")))
    ranks.train_all({"run": {"preset": str(file), "changes": {"train.steps": 5}}}, tmp_path)
    fit(config_of("latent"), None, tmp_path / "run", device="cpu", resume="latest")
    fit(config_of("latent"), None, tmp_path / "one", device="cpu")
    found, expected = (rows_of(tmp_path / name)[-1] for name in ("run", "one"))
    for key in (key for key in expected if key.startswith(("loss/", "grad_norm/"))):
        assert found[key] == pytest.approx(expected[key], rel=1e-4), key


def test_two_that_stopped_between_two_rows_go_on_to_the_same_bits(tmp_path):
    """Each takes up its own part of the log's window: a mean of both would round differently."""
    file = tmp_path / "game.yaml"
    changes = {"log.every": 5, "train.steps": 12}
    file.write_text(to_yaml(with_overrides(config_of("history-and-adaptive"), changes)))
    changes = {"train.steps": 8}
    jobs = {"run": {"preset": str(file), "changes": changes}, "whole": {"preset": str(file)}}
    ranks.train_all(jobs, tmp_path)
    ranks.train_all({"run": {"preset": str(file), "resume": "latest"}}, tmp_path)
    found, whole = (rows_of(tmp_path / name) for name in ("run", "whole"))
    for row in (*found, *whole):
        del row["seconds"]
    assert found == whole


def test_a_run_that_one_process_began_two_go_on_with(tmp_path):
    """The pool of past fakes, the balance and the averages are given to every process."""
    jobs = {}
    for name in ("boundary-equilibrium", "history-and-adaptive"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(to_yaml(config_of(name)))
        jobs[f"run-{name}"] = {"preset": str(file), "resume": "latest"}
        begun = with_overrides(config_of(name), {"train.steps": 2})
        fit(begun, None, tmp_path / f"run-{name}", device="cpu")
        fit(config_of(name), None, tmp_path / f"one-{name}", device="cpu")
    ranks.train_all(jobs, tmp_path)
    for name in ("boundary-equilibrium", "history-and-adaptive"):
        for kind in ("weights", "averaged"):
            left, right = (tensors_of(tmp_path / f"{who}-{name}", kind) for who in ("one", "run"))
            for key in left:
                assert torch.allclose(left[key].float(), right[key].float(), rtol=1e-4, atol=2e-5)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A configuration that would train for minutes, saving every 20 steps."""
    folder = tmp_path_factory.mktemp("long")
    changes = {"train.steps": 100_000, "train.checkpoint_every": 20, "log.every": 5}
    file = folder / "long.yaml"
    file.write_text(to_yaml(with_overrides(config_of("latent"), changes)))
    return file


def wait_for_row(run, step, started):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        path = run / "metrics.jsonl"
        if path.exists() and path.read_text().count("\n") * 5 > step:
            return
        assert all(p.poll() is None for p in started), [p.communicate() for p in started]
        time.sleep(0.02)
    raise TimeoutError("the run does not go on")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_run_with_its_checkpoint_and_a_word(victim, long_run, tmp_path):
    run = tmp_path / "run"
    words = ["train", "--preset", str(long_run), "--out", str(run), "--device", "cpu"]
    started = ranks.start([*ranks.COMMAND, *words])
    wait_for_row(run, 60, started)
    started[victim].kill()
    (code, _, err) = ranks.finish(started, 60)[1 - victim]
    assert code == 1
    assert "another process of this run died" in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()[-2:]) <= 2
    assert (run / "checkpoints/latest/weights.safetensors").exists()


def test_one_signal_stops_all_at_the_same_step_and_others_go_on(long_run, tmp_path):
    """A signal that only one rank gets; then one process alone goes on, and says what changed."""
    run = tmp_path / "run"
    words = ["train", "--preset", str(long_run), "--out", str(run), "--device", "cpu", "--json"]
    started = ranks.start([*ranks.COMMAND, *words])
    wait_for_row(run, 30, started)
    started[1].send_signal(signal.SIGTERM)
    (code, out, err), (other, silent, _) = ranks.finish(started)
    assert (code, other) == (130, 130), err
    assert silent == ""
    found = json.loads(out)
    assert found["stopped_by"] == "signal"
    again = [*ranks.COMMAND, "train", "--resume", str(run), "--steps", str(found["step"] + 1)]
    [(code, _, err)] = ranks.finish(ranks.start([*again, "--device", "cpu"], 1))
    assert code == 0, err
    assert "processes: 1, before 2; each takes 8 of a batch" in err


def test_a_mistake_is_said_once_and_by_all_exit_codes(long_run, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    words = ["train", "--preset", str(long_run), "--out", str(tmp_path / "taken")]
    results = ranks.finish(ranks.start([*ranks.COMMAND, *words, "--device", "cpu"]))
    assert [code for code, _, _ in results] == [2, 2]
    assert "not empty" in results[0][2]
    assert results[1][1:] == ("", "")
    odd = [*words[:-1], str(tmp_path / "new"), "--batch-size", "7", "--device", "cpu"]
    results = ranks.finish(ranks.start([*ranks.COMMAND, *odd]))
    assert [code for code, _, _ in results] == [2, 2]
    assert "cannot be shared equally by 2" in results[0][2]
    assert not (tmp_path / "new/config.yaml").exists()
