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


def test_memorization_takes_a_file_for_the_training_set(made):
    found = evaluate(
        made / "run", made / "digits.npz", ["memorization"], features=made / "seer", n=20
    )
    assert found["protocol"]["settings"]["memorization"]["training"]["n"] == 50
    assert "nothing is held out" in found["warnings"][-1]


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
