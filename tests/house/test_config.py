"""Presets, precedence, overrides, and what is said when they are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.config import presets
from genctl.config.load import differences, load_config, read_yaml, to_yaml, with_overrides
from genctl.config.schema import seconds_of
from genctl.errors import ConfigError, GenctlError, UsageError

ALL = list(presets.paths())


def test_presets_were_found():
    assert len(ALL) >= 12
    assert {"quickstart", "began", "began-paper", "dcgan", "dcgan-mnist", "gan"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_preset_resolves_and_says_what_to_expect(name):
    config = load_config(name)
    assert config.about["paper"]
    assert config.about["summary"]
    assert config.about["command"].startswith("genctl train --preset")
    assert config.optim
    assert "schedule" in next(iter(config.optim.values()))


@pytest.mark.parametrize("name", ALL)
def test_the_resolved_yaml_reads_back_equal(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert read_yaml(path) == config


def test_precedence_file_then_set(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: gan\ntrain: {steps: 5}\noptim: {generator: {lr: 3e-4}}\n")
    assert load_config(str(path)).train.steps == 5
    assert load_config(str(path)).optim["generator"]["lr"] == 3e-4
    assert load_config(str(path)).train.batch_size == load_config("gan").train.batch_size
    assert load_config(str(path), ["train.steps=7"]).train.steps == 7


def test_a_new_kind_replaces_the_old_node_whole():
    config = load_config("gan", ["model.generator.kind=dcgan", "model.generator.width=8"])
    assert config.model["generator"] == {
        "kind": "dcgan",
        "width": 8,
        "kernel": 4,
        "norm": "batch",
        "activation": "relu",
        "slope": 0.2,
        "up": "transposed",
    }
    config = load_config("gan", ["model.objective=minimax"])
    assert config.model["objective"]["kind"] == "minimax"


def test_a_value_may_contain_an_equals_sign():
    assert load_config("gan", ["about.summary=a=b"]).about["summary"] == "a=b"


def test_every_problem_is_reported_at_once_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        load_config(
            "gan", ["train.stepz=5", "train.batch_size=x", "model.latent_dim=0", "optm.a=1"]
        )
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "train.stepz: unknown key; did you mean 'steps'?" in text
    assert "optm: unknown key; did you mean 'optim'?" in text
    assert caught.value.exit_code == 2


def test_unknown_preset_suggests():
    with pytest.raises(UsageError, match="did you mean 'began'"):
        load_config("begann")


def test_yaml_tags_build_nothing(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("model: !!python/object/apply:os.system ['echo no']\n")
    with pytest.raises(ConfigError):
        load_config(str(path))


def test_extends_is_one_level(tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text("extends: dcgan-mnist\n")
    with pytest.raises(ConfigError, match="itself extends"):
        load_config(str(path))


def test_differences_name_the_paths():
    config = load_config("gan")
    changed = with_overrides(config, {"train.steps": 3, "optim.generator.lr": 1.0})
    assert set(differences(config, changed)) == {"train.steps", "optim.generator.lr"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5m", 90)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_override_gives_a_configuration_or_the_contracts_error(path, value):
    try:
        load_config("gan", [f"{path}={value}"])
    except GenctlError as error:
        assert error.exit_code == 2  # noqa: PT017 - hypothesis runs the whole body many times
