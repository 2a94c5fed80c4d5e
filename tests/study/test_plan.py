"""What a study's file asks for, and every way it can be wrong."""

from __future__ import annotations

import json

import pytest

from genctl.errors import ConfigError
from genctl.study.plan import read_study

SMALL = "set: {model.generator.width: 8, model.discriminator.width: 8, train.steps: 2}\n"


@pytest.fixture
def plan(tmp_path):
    def read(text):
        (tmp_path / "s.yaml").write_text(text)
        return read_study(tmp_path / "s.yaml")

    return read


def test_every_combination_once_a_seed_after_the_other(plan):
    study = plan(
        "runs: {a: {preset: gan-ring}, b: {preset: gan-grid, seeds: [7]}}\n"
        "vary: {train.batch_size: [8, 16], optim.generator.lr: [0.1, 0.2]}\n"
        "seeds: [0, 1]\n"
    )
    assert len(study.trials) == 4 * 2 + 4
    assert [t.seed for t in study.trials[:8]] == [0, 7] * 4
    assert {t.seed for t in study.trials[8:]} == {1}
    assert len({t.name for t in study.trials}) == 12
    assert "train.batch_size=8" in study.trials[0].changes
    assert study.sweeps[0].x == "train.batch_size"


def test_trials_that_two_sweeps_share_are_made_once(plan):
    study = plan(
        "runs: [gan-ring]\ndata: 'toy:ring?modes={m}&std={s}'\n"
        "vary: [{m: [4, 8], s: [0.1]}, {m: [8], s: [0.1, 0.2]}]\n"
    )
    assert [t.data for t in study.trials] == [
        "toy:ring?modes=4&std=0.1",
        "toy:ring?modes=8&std=0.1",
        "toy:ring?modes=8&std=0.2",
    ]
    assert [sweep.x for sweep in study.sweeps] == ["m", "s"]
    assert study.trials[0].entry == "gan-ring"


def test_a_variable_alone_stays_a_number_and_settings_have_their_precedence(plan):
    study = plan(
        "runs: {a: {preset: gan-ring, set: {train.steps: 3, model.latent_dim: '{k}'}}}\n"
        "set: {train.steps: 2, train.batch_size: 8}\nvary: {k: [5]}\n"
    )
    (trial,) = study.trials
    assert sorted(trial.changes) == ["model.latent_dim=5", "train.batch_size=8", "train.steps=3"]


def test_names_of_folders_are_plain_and_differ(plan):
    study = plan("runs: [gan]\nvary: {data.spec: ['/a/b', '/a_b', '" + "x" * 300 + "']}\n")
    names = [t.name for t in study.trials]
    assert len(set(names)) == 3
    for name in names:
        assert "/" not in name
        assert len(name) <= 120


def test_a_file_beside_the_study_is_a_preset(plan, tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: gan\n")
    (trial,) = plan("runs: {a: {preset: mine.yaml}}").trials
    assert trial.preset == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs: {}", "runs"),
        ("seeds: [0]", "runs: missing"),
        ("runs: {a: {presett: gan}}", "did you mean 'preset'"),
        ("runs: {a: {preset: gan}}\nsteps: 3", "unknown key"),
        ("runs: {a/b: {preset: gan}}", "plain file name"),
        ("runs: [gan]\nseeds: [1, 1]", "given twice"),
        ("runs: [gan]\nseeds: []", "seeds"),
        ("runs: [gan]\nmax_time: soon", "soon"),
        ("runs: [gan]\nvary: {train.steps: []}", "vary"),
        ("runs: [gan]\nvary: {train.steps: [1, 1]}", "given twice"),
        ("runs: [gan]\nvary: {modes: [1, 2]}", "stands nowhere"),
        ("runs: [gan]\ndata: 'toy:ring?modes={modse}'\nvary: {modes: [1]}", "did you mean 'modes'"),
        ("runs: [gan]\ndata: 'toy:ring?modes={m}'\nvary: [{m: [1]}, {train.steps: [1]}]", "{m}"),
        ("runs: [gan]\nvary: {train.steps: [1, 2]}\nplot: {x: train.stepz}", "'train.steps'"),
        (f"runs: [gan]\nvary: {{train.steps: {json.dumps(list(range(10_001)))}}}", "10,001"),
        ("- a", "expected sections"),
        ("runs: !!python/object:x {}", "refused"),
    ],
)
def test_a_mistake_is_named(plan, text, says):
    with pytest.raises(ConfigError) as caught:
        plan(text)
    assert says in caught.value.reason


def test_all_mistakes_are_told_at_once_and_nothing_is_written(study, tmp_path):
    code, found = study(
        SMALL + "runs:\n"
        "  a: {preset: gan-rng}\n"
        "  b: {preset: gan-ring, set: {model.generator.widht: 8}}\n"
        "  c: {preset: dcgan, data: 'toy:ring'}\n"
        "  d: {preset: gan-ring, data: 'toy:rinq'}\n"
        "evaluate: {measures: [modez]}\nplot: {y: fd}\n"
    )
    assert code == found["error"]["code"] == 2
    for text in (
        "'gan-ring'",
        "'width'",
        "wants images",
        "'ring'",
        "'modes'",
        "'fd' is not measured",
    ):
        assert text in found["error"]["reason"], text
    assert not (tmp_path / "out").exists()


def test_only_bad_data_is_4(study, tmp_path):
    code, found = study(f"runs: [gan]\ndata: {tmp_path / 'nowhere'}\n")
    assert code == 4
    assert "nowhere" in found["error"]["reason"]


def test_a_file_that_is_not_there(capsys, tmp_path):
    from genctl.cli.main import main

    assert main(["study", str(tmp_path / "no.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_dry_run_lists_the_commands_and_writes_nothing(study, tmp_path):
    code, found = study(SMALL + "runs: [gan-ring]\nseeds: [3, 4]\nmax_time: 10s\n", "--dry-run")
    assert code == 0
    assert [row["seed"] for row in found["runs"]] == [3, 4]
    assert "--seed 3" in found["runs"][0]["command"]
    assert "--max-time 10.000s" in found["runs"][0]["command"]
    assert not (tmp_path / "out").exists()
