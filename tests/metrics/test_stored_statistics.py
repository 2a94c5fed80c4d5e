"""``data cache --statistics --out``: a file that stands for the real side, whatever the other is."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.engine.fit import fit
from genctl.errors import DataError
from genctl.report.evaluate import evaluate
from genctl.report.gates import protocol_differences

TINY = {"train.steps": 1, "train.batch_size": 8, "log.preview_every": 0, "train.precision": "fp32"}
NARROW = {"model.generator.width": 8, "model.discriminator.width": 8}
ASKED = ["fid", "kid", "is"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, two classifiers, a folder, and files of the digits' features."""
    place = tmp_path_factory.mktemp("made")
    for name, preset, more in (
        ("run", "quickstart", NARROW),
        ("seer", "classifier", {"model.network.width": 8}),
        ("other", "classifier", {"model.network.width": 8, "train.seed": 1}),
    ):
        fit(load_config(preset, {**TINY, **more}), "digits", place / name, device="cpu")
    rng = np.random.default_rng(0)
    (place / "folder").mkdir()
    for i in range(30):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "folder" / f"{i:02d}.png")
    for name, spec, features, size in (
        ("digits", "digits", "seer", "8"),
        ("folder", place / "folder", "seer", "native"),
        ("elsewhere", "digits", "other", "native"),
        ("large", "digits", "seer", "12"),
    ):
        words = ["data", "cache", spec, "--statistics", "--features", place / features, "-n", 50]
        words += ["--size", size, "--out", place / f"{name}.npz", "--device", "cpu", "--quiet"]
        assert main([str(word) for word in words]) == 0
    bare = np.load(place / "digits.npz")["features"]
    np.savez(place / "bare.npz", features=bare)
    return place


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path_factory.getbasetemp() / "statistics-cache"))


def measured(generated, real, place, **more):
    options = {"features": place / "seer", "n": 50, "is_splits": 2, "device": "cpu", **more}
    return evaluate(generated, real, ASKED, **options)


def same(found, expected):
    for key, entry in expected.items():
        for name, value in entry.items():
            assert found[key][name] == pytest.approx(value, rel=1e-9), (key, name)


def test_against_a_run_the_file_gives_what_the_data_gives(made):
    plain = measured(made / "run", "digits", made)
    kept = measured(made / "run", made / "digits.npz", made)
    assert kept["metrics"] == plain["metrics"]
    assert protocol_differences(kept, plain) == []
    assert kept["protocol"]["real"]["fingerprint"] == plain["protocol"]["real"]["fingerprint"]
    fewer = measured(made / "run", "digits@test", made)
    assert any("real fingerprint" in text for text in protocol_differences(kept, fewer))


def test_against_a_folder_on_either_side_and_against_another_file(made):
    plain = measured(made / "folder", "digits", made)["metrics"]
    same(measured(made / "folder", made / "digits.npz", made)["metrics"], plain)
    same(measured(made / "folder.npz", "digits", made)["metrics"], plain)
    both = measured(made / "folder.npz", made / "digits.npz", made, features=None)
    same(both["metrics"], plain)
    assert both["protocol"]["extractor_hash"]
    assert both["features"] == "stored"


def cached(spec, out, *more):
    words = ["data", "cache", spec, "--statistics", "--out", out, "--device", "cpu", "--quiet"]
    assert main([str(word) for word in (*words, *more)]) == 0
    return out


# --- memorisation -------------------------------------------------------------------------------
def remembered(made, generated, training, **more):
    return evaluate(generated, training, ["memorization"], features=made / "seer", n=20, **more)


def test_memorization_takes_a_file_of_the_whole_training_part(made, tmp_path):
    whole = cached("digits", tmp_path / "whole.npz", "--features", made / "seer", "-n", 2000)
    found = remembered(made, made / "run", whole)
    told = found["protocol"]["settings"]["memorization"]["training"]
    assert (told["n"], told["split"]) == (1725, "train")
    assert "nothing is held out" in found["warnings"][-1]
    plain = remembered(made, made / "run", "digits")
    first, second = (entry["metrics"]["memorization"]["nearest"] for entry in (found, plain))
    assert first == second


@pytest.mark.parametrize(
    ("spec", "n", "reason"),
    [
        ("digits", 50, "holds 50 of the 1725 examples of its train part"),
        ("digits@test", 2000, "features of the test part"),
        ("digits@all", 2000, "features of the all part"),
    ],
)
def test_a_sample_or_another_part_is_no_training_part(spec, n, reason, made, tmp_path):
    file = cached(spec, tmp_path / "part.npz", "--features", made / "seer", "-n", n)
    found = remembered(made, made / "run", file)
    entry = found["metrics"]["memorization"]
    assert entry["copies"] is None
    assert reason in entry["reason"]
    assert "digits@train --statistics" in entry["reason"]
    assert found["error"]["code"] == 4


def test_mirror_images_that_a_file_does_not_hold_are_told(made, tmp_path):
    whole = cached("digits", tmp_path / "whole.npz", "--features", made / "seer", "-n", 2000)
    config = load_config("quickstart", {**TINY, **NARROW, "data.flip": True})
    fit(config, "digits", tmp_path / "flipped", device="cpu")
    found = remembered(made, tmp_path / "flipped", whole)
    assert any("saw mirror images as well" in text for text in found["warnings"])


def test_files_that_do_not_say_of_how_many_they_are_only_warn(made, tmp_path):
    cached("digits", tmp_path / "whole.npz", "--features", made / "seer", "-n", 2000)
    older(tmp_path / "whole.npz", "n", "of", "without", "holdout")
    found = remembered(made, made / "run", tmp_path / "whole.npz")
    assert found["metrics"]["memorization"]["copies"] is not None
    assert any("does not say of how many" in text for text in found["warnings"])


def test_precisions_are_not_mixed_by_memorization_either(made, tmp_path):
    files = {}
    for name, spec, precision in (
        ("q", made / "folder", "bf16"),
        ("t", "digits", "bf16"),
        ("p", "digits@test", "bf16"),
        ("full", "digits", "fp32"),
    ):
        words = ("--features", made / "seer", "--precision", precision, "-n", 2000)
        files[name] = cached(spec, tmp_path / f"{name}.npz", *words)
    asked = {"measures": ["memorization"], "held_out": files["p"]}
    found = evaluate(files["q"], files["t"], **asked)
    assert found["metrics"]["memorization"]["balance"] is not None
    assert found["protocol"]["precision"] == "bf16"
    assert any("features in bf16" in text for text in found["warnings"])
    with pytest.raises(DataError, match=r"in bf16, .*full\.npz in fp32"):
        evaluate(files["q"], files["full"], **asked)
    with pytest.raises(DataError, match="stored in bf16, asked for fp32"):
        evaluate(files["q"], files["t"], **asked, precision="fp32")


# --- how the data was prepared ------------------------------------------------------------------
def older(path, *keys):
    """The file as it was before it told these facts of its data."""
    arrays = dict(np.load(path))
    told = json.loads(str(arrays["protocol"]))
    for key in keys:
        told["data"].pop(key)
    arrays.pop("rows", None)
    np.savez(path, **{**arrays, "protocol": json.dumps(told)})


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """Runs whose data is binarised, without threes, and of another held-out share."""
    place = tmp_path_factory.mktemp("binary")
    for name, more in (
        ("threshold", {"data.binarise": "threshold"}),
        ("dynamic", {"data.binarise": "dynamic"}),
        ("without", {"data.without": [3]}),
        ("squeezed", {"data.crop": "none"}),
        ("held", {"data.holdout": 0.3}),
    ):
        fit(load_config("quickstart", {**TINY, **NARROW, **more}), "digits", place / name)
    return place


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("threshold", "data.binarise none, not threshold"),
        ("dynamic", "data.binarise none, not fixed"),
        ("without", r"data.without \[\], not \[3\]"),
        ("squeezed", "data.crop centre, not none"),
        ("held", "data.holdout 0.05, not 0.3"),
    ],
)
def test_a_file_of_data_prepared_otherwise_is_refused_and_run_makes_the_right_one(
    name, reason, binary, tmp_path, capsys
):
    pixels = ("--features", "pixels", "-n", 2000)
    run, options = binary / name, {"features": "pixels", "n": 60}
    wrong = cached("digits", tmp_path / "wrong.npz", *pixels)
    with pytest.raises(DataError, match=reason) as raised:
        evaluate(run, wrong, ["fid"], **options)
    assert f"--run {run}" in raised.value.remedy
    right = cached("digits", tmp_path / "right.npz", *pixels, "--run", run)
    options["n"] = 2000
    found, plain = (evaluate(run, real, ["fid"], **options) for real in (right, "digits"))
    assert found["metrics"] == plain["metrics"]
    assert found["warnings"] == plain["warnings"]
    words = ["data", "cache", "digits", "--statistics", *map(str, pixels), "--size", "8"]
    assert main([*words, "--run", str(run)]) == 2
    assert "--size 8" in capsys.readouterr().err


def test_an_older_file_is_taken_with_a_warning(binary, made, tmp_path):
    file = cached("digits", tmp_path / "old.npz", "--features", "pixels")
    older(file, "without", "holdout", "n", "of")
    found = evaluate(made / "run", file, ["fid"], features="pixels", n=60)
    assert found["metrics"]["fd"]["value"] > 0
    (text,) = (text for text in found["warnings"] if "does not say" in text)
    assert "data.without, data.holdout" in text


def test_damaged_numbers_of_rows_are_bad_data(made, tmp_path):
    for rows in (np.arange(3), np.linspace(0, 1, 4)):
        np.savez(tmp_path / "bad.npz", features=np.eye(4), rows=rows)
        with pytest.raises(DataError, match="`rows` is"):
            evaluate(tmp_path / "bad.npz", made / "bare.npz", ["fid"])


@pytest.mark.parametrize(
    ("generated", "real", "reason"),
    [
        ("run", "elsewhere.npz", "another kind .*extractor_hash"),
        ("folder", "elsewhere.npz", "another kind .*extractor_hash"),
        ("folder.npz", "elsewhere.npz", "another kind .*extractor_hash"),
        ("run", "large.npz", r"pictures of \(1, 12, 12\), .*run makes \(1, 8, 8\)"),
        ("run", "bare.npz", "does not say whose"),
        ("folder", "bare.npz", "does not say whose"),
        ("bare.npz", "folder", "does not say whose"),
        ("bare.npz", "digits.npz", None),  # two files: the user knows
    ],
)
def test_features_of_another_kind_are_refused_with_a_remedy(generated, real, reason, made):
    if reason is None:
        assert measured(made / generated, made / real, made)["metrics"]["fd"]["value"] < 1e-6
        return
    with pytest.raises(DataError) as raised:
        measured(made / generated, made / real, made)
    assert re.search(reason, raised.value.reason)
    assert raised.value.remedy


@pytest.mark.parametrize("text", ["{", "[]", '{"data": 3}', "x" * 70_000])
def test_a_damaged_protocol_is_bad_data(text, made, tmp_path):
    np.savez(tmp_path / "bad.npz", features=np.eye(4), protocol=text)
    with pytest.raises(DataError, match="`protocol` is"):
        evaluate(tmp_path / "bad.npz", made / "digits.npz", ["fid"])


def test_the_file_is_an_npz(tmp_path, capsys):
    words = ["data", "cache", "digits", "--statistics", "--features", "pixels", "--json"]
    assert main([*words, "--out", str(tmp_path / "a.pt")]) == 2
    assert "npz" in json.loads(capsys.readouterr().out)["error"]["reason"]
