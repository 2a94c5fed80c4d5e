"""InfoGAN's codes from the command line: the sweep, and what its clusters are worth."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.engine.fit import fit

TINY = {
    "train.steps": 2,
    "train.batch_size": 8,
    "log.preview_every": 0,
    "model.generator.width": 8,
    "model.discriminator.width": 8,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "infogan"
    fit(load_config("infogan", {**TINY, "model.categorical": [4]}), None, out, device="cpu")
    return out


def asked(capsys, *words):
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_picture_with_the_rows_of_each_code(run, tmp_path, capsys):
    out = tmp_path / "codes.png"
    words = ("interpolate", run, "--codes", "--rows", 2, "--steps", 5, "--out", out)
    code, found = asked(capsys, *words)
    assert code == 0
    assert found["n"] == 3 * 2 * 5  # a categorical code and two continuous ones
    width, height = Image.open(out).size
    assert (width - 2) * 6 == (height - 2) * 5


def test_a_walk_and_a_sweep_at_once_are_refused(run, capsys):
    code, found = asked(capsys, "interpolate", run, "--codes", "--slerp")
    assert code == 2
    assert found["error"]["thing"] == "--slerp/--lerp"


def test_a_model_without_codes_says_so(tmp_path, capsys):
    fit(load_config("gan", {"train.steps": 1}), None, tmp_path / "gan", device="cpu")
    code, found = asked(capsys, "interpolate", tmp_path / "gan", "--codes")
    assert code == 5
    assert "infogan" in found["error"]["remedy"]


def test_clusters_of_held_out_digits(run, capsys):
    code, found = asked(capsys, "evaluate", run, "digits", "--clusters", "-n", 60)
    assert code == 0
    entry = found["metrics"]["clusters"]
    assert entry["n"] == 60
    assert 0.05 < entry["value"] <= entry["majority"] < 0.95
    assert 1 <= entry["clusters"] <= 4
    assert found["protocol"]["split"] == "test"
