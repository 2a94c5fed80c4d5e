"""A set against itself is at no distance, however few of its examples are drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genctl.cli.main import main
from genctl.report.evaluate import evaluate

SAID = "both sides are the same data"


def measured(generated, real, n=100, **more):
    options = {"features": "pixels", "n": n, "device": "cpu", **more}
    found = evaluate(generated, real, ["fid", "pr"], **options)
    return found, any(SAID in text for text in found["warnings"])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of a hundred and of all training digits, of their test part, and one made elsewhere."""
    place = tmp_path_factory.mktemp("files")
    for name, spec, n, seed in (
        ("hundred", "digits", 100, 0),
        ("other", "digits", 100, 1),
        ("whole", "digits", 2000, 0),
        ("test", "digits@test", 2000, 0),
    ):
        words = ["data", "cache", spec, "--statistics", "--features", "pixels"]
        words += ["-n", str(n), "--seed", str(seed)]
        assert main([*words, "--out", str(place / f"{name}.npz"), "--quiet"]) == 0
    np.savez(place / "bare.npz", features=np.load(place / "whole.npz")["features"])
    return place


def test_the_same_rows_are_drawn_of_the_same_data_and_it_is_said():
    found, said = measured("digits", "digits")
    assert said
    assert found["protocol"]["same_rows"] is True
    assert found["metrics"]["fd"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert found["metrics"]["pr"]["precision"] == 1.0
    other = measured("digits", "digits", seed=1)[0]
    assert other["metrics"]["fd"]["value"] == pytest.approx(0.0, abs=1e-9)


def test_of_other_data_rows_are_drawn_independently():
    for generated in ("digits@test", "digits@all"):
        found, said = measured(generated, "digits", n=60)
        assert not said
        assert "same_rows" not in found["protocol"]
        assert found["metrics"]["fd"]["value"] > 0.01
    ring = evaluate("toy:ring@test", "toy:ring@train", ["fid"], n=100)
    assert ring["metrics"]["fd"]["value"] > 0, "two draws of one law"
    whole, said = measured("digits", "digits", n=2000)
    assert not said, "nothing was drawn"
    assert whole["metrics"]["fd"]["value"] == 0.0


@pytest.mark.parametrize(
    ("generated", "real", "same"),
    [
        ("digits", "hundred", True),
        ("hundred", "digits", True),
        ("digits", "whole", True),
        ("hundred", "hundred", True),
        ("whole", "whole", True),
        ("bare", "bare", True),
        ("hundred", "whole", True),
        ("whole", "other", True),
        ("hundred", "other", False),  # two hundreds, drawn by two seeds
        ("bare", "whole", False),  # it does not say of what it is
        ("test", "whole", False),
    ],
)
def test_files_say_which_rows_they_hold(generated, real, same, files):
    sides = [name if name == "digits" else files / f"{name}.npz" for name in (generated, real)]
    more = {} if "digits" in (generated, real) else {"features": None}
    n = 60 if "test" in (generated, real) else 100
    found, said = measured(*sides, n=n, **more)
    assert said is same
    assert (found["metrics"]["fd"]["value"] < 1e-9) is (same or generated == real)


def test_a_number_of_a_row_that_is_not_there_is_not_followed(files, tmp_path):
    arrays = dict(np.load(files / "hundred.npz"))
    arrays["rows"][0] = 99_999
    np.savez(tmp_path / "far.npz", **arrays)
    found, said = measured("digits", tmp_path / "far.npz")
    assert not said
    assert found["metrics"]["fd"]["value"] > 0


def test_memorization_still_searches_the_whole_training_part(capsys):
    words = ["evaluate", "digits@train", "digits", "--memorization", "--fid", "-n", "50", "--json"]
    assert main([*words, "--features", "pixels"]) == 0
    found = json.loads(capsys.readouterr().out)
    facts = found["protocol"]["settings"]["memorization"]
    assert (facts["n_training"], facts["held_out"]["split"]) == (1725, "test")
    assert found["metrics"]["memorization"]["copies"] == 1.0
    assert found["protocol"]["same_rows"] is True
