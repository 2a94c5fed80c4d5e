"""A checkpoint and the configuration beside it: an edited one is refused, and takes no memory."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.config import presets
from genctl.config.load import load_config, to_yaml, with_overrides
from genctl.config.resume import FREE, edited, lasting
from genctl.engine import belonging, checkpoint
from genctl.engine.belonging import require_fitting, require_unedited, sketch
from genctl.engine.construction import build_model
from genctl.engine.fit import complete, fit, open_data
from genctl.engine.run import open_run
from genctl.engine.run_directory import RunDirectory
from genctl.errors import ConfigError, DataError

STORED = Path(__file__).parent.parent / "fixtures" / "run-schema-1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    fit(small("gan-ring", train__steps=3, evaluate__measures=[]), None, run, device="cpu")
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def edit(run, **changes):
    directory = RunDirectory(run)
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    directory.write_config(with_overrides(directory.config(), dotted))


def resume(run, *words):
    return main(["train", "--resume", str(run), "--device", "cpu", "--quiet", "--json", *words])


@pytest.mark.parametrize(
    "changes",
    [
        {"optim__generator__lr": 0.5},
        {"train__batch_size": 4, "train__seed": 7},
        {"model__latent_dim": 5},
        {"data__flip": True},
        {"model__history": 4, "ema__half_life_images": 7.0},
    ],
)
def test_an_edited_run_is_not_gone_on_with(run, changes, capsys):
    before = (run / "config.yaml").read_text()
    edit(run, **changes)
    for words in (["--steps", "5"], [], ["--steps", "5", "--dry-run"]):
        assert resume(run, *words) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        for key in changes:
            assert f"{key.replace('__', '.')}: trained with" in error["reason"]
        assert "back into" in error["remedy"]
    (run / "config.yaml").write_text(before)
    assert resume(run, "--steps", "5") == 0
    assert json.loads(capsys.readouterr().out)["step"] == 5


def test_what_may_change_may_be_edited(run):
    edit(run, train__steps=5, log__every=2, train__keep=1, train__checkpoint_every=1)
    assert resume(run) == 0
    assert checkpoint.steps(run / "checkpoints") == [5]


def test_facts_of_the_data_are_no_users_to_edit(run, capsys):
    text = (run / "config.yaml").read_text()
    assert "levels: 0" in text
    (run / "config.yaml").write_text(text.replace("levels: 0", "levels: 3"))
    for words in (["train", "--resume", str(run), "--steps", "9"], ["sample", str(run)]):
        assert main([*words, "--device", "cpu"]) == 2
        assert "found.levels" in capsys.readouterr().err


def test_from_python_another_configuration_is_refused_too(run):
    other = with_overrides(RunDirectory(run).config(), {"train.steps": 9, "train.clip": 0.5})
    with pytest.raises(ConfigError, match=r"train\.clip: trained with None"):
        fit(other, None, run, device="cpu", resume="latest")
    assert checkpoint.steps(run / "checkpoints") == [0, 3]


def test_a_sample_is_of_the_model_that_was_trained(run, tmp_path, capsys):
    edit(run, optim__generator__lr=0.5)  # what it was trained with is no matter now
    words = ["sample", str(run), "-n", "2", "--device", "cpu", "--out", str(tmp_path / "x.npz")]
    assert main(words) == 0
    edit(run, model__generator__width=9)
    capsys.readouterr()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "model.generator.width: trained with 8, config.yaml has 9" in err
    assert "lr" not in err


def test_a_run_of_before_goes_on_as_it_did(tmp_path):
    """Its checkpoint keeps no configuration; the next one does."""
    run = tmp_path / "run"
    shutil.copytree(STORED, run, symlinks=True)
    edit(run, train__steps=26, optim__generator__lr=0.5)
    assert resume(run) == 0
    edit(run, train__steps=27, optim__generator__lr=0.25)
    assert resume(run) == 2


def test_a_key_of_a_later_version_has_its_default():
    config = small("gan-ring")
    kept = lasting(config)
    del kept["model"]["history"], kept["train"]["clip"]
    assert edited(config, kept) == {}
    changed = with_overrides(config, {"model.history": 3, "train.clip": 2.0})
    assert set(edited(changed, kept)) == {"model.history", "train.clip"}


@pytest.mark.parametrize("name", ["gan-ring", "quickstart", "vae", "realnvp"])
def test_a_configuration_is_no_edit_of_itself(name):
    config = load_config(name)
    kept = json.loads(json.dumps(lasting(config)))
    assert edited(config, kept) == {}
    text = json.dumps(kept)
    for key in FREE:
        assert f'"{key.strip(".").rpartition(".")[2]}"' not in text, key
    scored = with_overrides(
        config, {"evaluate.measures": ["modes"], "evaluate.every": 5, "evaluate.best": "modes"}
    )
    again = with_overrides(scored, {"evaluate.every": 9})
    assert edited(again, lasting(scored)) == {}
    former = {**lasting(scored), "evaluate": {"features": "inception", "n": 7}}
    assert edited(again, former) == {}, "as earlier versions kept it"


@pytest.mark.parametrize(
    "kept", [{}, {"model": {"kind": "x"}}, {"evaluate": []}, {"model": 3, "train": []}]
)
def test_what_is_kept_may_be_anything(kept, run):
    config = RunDirectory(run).config()
    with pytest.raises(DataError, match="keeps a configuration that is none"):
        require_unedited(config, {"config": kept}, run)


# --- sketches -------------------------------------------------------------------------------------
def shapes(model):
    return {k: t.shape for k, t in model.state_dict().items() if torch.is_tensor(t)}


@pytest.mark.parametrize("name", list(presets.paths()))
def test_every_preset_can_be_sketched(name):
    """With the names and shapes of the real one, and nothing that has memory."""
    config = small(name)
    config = complete(config, open_data(config, None), None, torch.device("cpu"))
    random = torch.get_rng_state()
    model = sketch(config, belonging.TO_BEGIN)
    assert torch.equal(torch.get_rng_state(), random)
    assert model is not None
    assert shapes(model) == shapes(build_model(config))
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])
    require_fitting(config, {k: torch.empty(s) for k, s in shapes(model).items()}, Path("run"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model__generator__width": 9}, r"generator\S* is \(8, 4\), and \(9, 4\) is needed"),
        ({"model__generator__depth": 2}, "is needed"),
        ({"model__discriminator__depth": 10**9}, "depth=1000000000, and they are"),
        ({"model__generator__width": 2**62}, "run: its weights do not fit"),
        ({"model__history": 64}, "history.* is missing"),
    ],
)
def test_other_networks_do_not_fit(run, changes, says):
    config = RunDirectory(run).config()
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    weights = checkpoint.find(run / "checkpoints").weights
    require_fitting(config, weights, run)
    with pytest.raises(DataError, match=says):
        require_fitting(with_overrides(config, dotted), weights, run)


def test_a_sketch_without_end_is_given_up(run):
    config = small("realnvp")
    config = complete(config, open_data(config, None), None, torch.device("cpu"))
    weights = build_model(config).state_dict()
    with pytest.raises(DataError, match="more parts than the weights are for"):
        require_fitting(with_overrides(config, {"model.density.couplings": 10**9}), weights, run)


def test_a_part_that_needs_numbers_is_built_as_before(run, monkeypatch):
    monkeypatch.setattr(belonging, "sketch", lambda *_: None)
    assert open_run(run, "cpu").sample(2).shape == (2, 2)


def test_the_resolved_configuration_of_a_file_is_kept(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(to_yaml(small("gan-ring", train__steps=1, evaluate__measures=[])))
    words = ["train", "--preset", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*words, "--quiet"]) == 0
    state = checkpoint.read_state(checkpoint.locate(tmp_path / "run/checkpoints"))
    assert state["config"] == lasting(RunDirectory(tmp_path / "run").config())
