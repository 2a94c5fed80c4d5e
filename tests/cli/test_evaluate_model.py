"""``evaluate --probe``, ``--manifold`` and ``--anomaly`` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genctl.cli.main import main
from genctl.metrics.measure import table
from genctl.report.gates import protocol_differences

QUICK = ["--set", "log.preview_every=0", "--set", "evaluate.measures=[]", "--device", "cpu"]
QUICK += ["--precision", "fp32", "--quiet"]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(autouse=True)
def _short_fine_tuning(monkeypatch):
    """How well it learns is tested in tests/metrics/test_probe.py."""
    monkeypatch.setattr("genctl.metrics.fine_tuning.STEPS", 10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A GAN of two steps; a VAE that knows no 3, trained for a few seconds; one of triangles."""
    folder = tmp_path_factory.mktemp("runs")
    narrow = ["--set", "model.generator.width=8", "--set", "model.discriminator.width=8"]
    triangles = ["--data", "toy:triangles?size=12&examples=50"]
    small = ["--set", "model.encoder.width=16", "--set", "model.decoder.width=16"]
    normal = ["--set", "data.without=[3]", "--set", "data.holdout=0.3", "--steps", 200]
    for name, preset, settings in (
        ("gan", "quickstart", [*narrow, "--steps", 2]),
        ("normal", "vae", normal),
        ("triangles", "vae", [*triangles, *small, "--steps", 2]),
    ):
        words = ["train", "--preset", preset, "--out", folder / name]
        assert run(*words, *settings, *QUICK) == 0
    return folder


def reachable(found: dict) -> None:
    """A gate reaches every number of every measure, and knows what is none."""
    for key, entry in found["metrics"].items():
        measure = next(m for m in table().values() if key in (m.name, m.other_name))
        for name, value in entry.items():
            number = isinstance(value, int | float)
            if value is not None:
                assert name in (measure.numbers if number else measure.words), (key, name)


def measured(capsys, *words: object, code: int = 0) -> dict:
    capsys.readouterr()
    assert run("evaluate", *words, "--device", "cpu", "--json") == code
    found = json.loads(capsys.readouterr().out)
    if code == 0:
        reachable(found)
    return found


# --- probe ---------------------------------------------------------------------------------------
def test_the_probe_stands_beside_its_baselines_and_the_seed_decides_all(runs, capsys) -> None:
    words = (runs / "gan", "digits", "--probe", "--probe-labels", "20,40", "--probe-draws", 1)
    found = measured(capsys, *words, "-n", 60)
    entry = found["metrics"]["probe"]
    names = {(row["features"], row["classifier"], row["labels"]) for row in entry["rows"]}
    features = ("model", "model, all layers", "untrained", "untrained, all layers", "pixels")
    linear = {(f, c) for f in features for c in ("logistic", "svm")}
    tuned = {("model", "fine-tuned"), ("untrained", "fine-tuned")}
    assert names == {(f, c, n) for f, c in linear | tuned for n in (20, 40)}
    # Digits are told apart from pixels by far better than by chance, which is 0.9.
    assert 0.05 < entry["pixels"] < 0.5
    means = {(r["features"], r["classifier"], r["labels"]): r["mean"] for r in entry["rows"]}
    assert entry["svm"] == means["model", "svm", 40]
    assert entry["fine_tuned"] == means["model", "fine-tuned", 40]
    assert (entry["of"], entry["n_test"], entry["labels"]) == ("discriminator", 60, 40)
    protocol = found["protocol"]["settings"]["probe"]
    assert protocol["labels"] == [20, 40]
    assert (protocol["test"]["split"], protocol["test"]["n"]) == ("test", 60)
    assert protocol["test"]["fingerprint"] != protocol["training"]["fingerprint"]
    assert (runs / "gan" / "reports" / "evaluate-00000002-probe.json").is_file()
    again = measured(capsys, *words, "-n", 60)
    assert again["metrics"] == found["metrics"]
    assert protocol_differences(found, again) == []


def test_an_encoder_is_probed_where_there_is_no_discriminator(runs, capsys) -> None:
    words = ("--probe", "--probe-labels", 20, "--probe-draws", 1, "-n", 40)
    entry = measured(capsys, runs / "normal", "digits", *words)["metrics"]["probe"]
    assert entry["of"] == "encoder"
    assert entry["value"] < 0.6


def test_too_few_examples_for_the_labels_is_a_reason(runs, capsys) -> None:
    words = (runs / "gan", "digits", "--probe", "--probe-labels", 19, "--probe-draws", 1)
    error = measured(capsys, *words, code=4)["error"]
    assert "fewer than two for each of 10 classes" in error["reason"]


def test_a_count_that_there_are_too_few_examples_for_is_left_out_alone(runs, capsys) -> None:
    words = (runs / "gan", "digits", "--probe", "--probe-labels", "20,5000", "--probe-draws", 1)
    found = measured(capsys, *words, "-n", 60)
    entry = found["metrics"]["probe"]
    assert entry["value"] is not None
    assert (entry["labels"], {row["labels"] for row in entry["rows"]}) == (20, {20})
    assert found["protocol"]["settings"]["probe"]["labels"] == [20]
    assert "nothing was learned from 5000 labels: class" in found["warnings"][0]


# --- anomaly -------------------------------------------------------------------------------------
def test_the_label_that_training_left_out_is_found_strange(runs, capsys) -> None:
    words = (runs / "normal", "digits", "--anomaly", "--anomaly-by", "reconstruction")
    found = measured(capsys, *words)
    entry = found["metrics"]["anomaly"]
    assert entry["auroc"] > 0.7
    assert entry["low"] < entry["auroc"] < entry["high"]
    assert entry["average_precision"] > 2 * entry["chance_precision"]
    assert entry["n_normal"] + entry["n_anomalous"] > 450  # 0.3 of 1,797
    assert found["protocol"]["settings"]["anomaly"]["anomalous"] == [3]
    assert found["warnings"] == []
    # A label that was trained on is no stranger than another, and the protocol says so.
    other = measured(capsys, *words, "--anomaly-class", 0)
    assert other["protocol"]["settings"]["anomaly"]["trained_without"] == [3]
    assert other["metrics"]["anomaly"]["auroc"] < entry["auroc"]
    assert "anomaly: label 0 was not left out in the training" in other["warnings"][0]
    assert protocol_differences(found, other) == ["anomaly.anomalous: [3] against [0]"]
    gate = measured(capsys, *words, "--require", "anomaly.auroc>0.999", code=3)
    assert gate["gates"][0]["met"] is False


def test_by_default_a_likelihood_judges_and_anomalies_may_be_other_data(
    runs, capsys, tmp_path
) -> None:
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=noise)
    words = (runs / "normal", "digits", "--anomaly", "--anomaly-data", tmp_path / "noise.npz")
    found = measured(capsys, *words, "-n", 80)
    entry = found["metrics"]["anomaly"]
    assert entry["by"] == "likelihood"
    assert entry["auroc"] > 0.99
    assert (entry["n_normal"], entry["n_anomalous"]) == (80, 40)
    np.savez(tmp_path / "noise.npz", images=noise[:30])
    (said,) = protocol_differences(found, measured(capsys, *words, "-n", 80))[:1]
    assert said.startswith("anomaly.anomalous_data.fingerprint")


def test_a_discriminator_can_judge_too(runs, capsys) -> None:
    words = (runs / "gan", "digits", "--anomaly", "--anomaly-class", 1)
    entry = measured(capsys, *words)["metrics"]["anomaly"]
    assert entry["by"] == "discriminator"
    assert 0 <= entry["auroc"] <= 1


# --- manifold ------------------------------------------------------------------------------------
def test_precision_and_recall_on_triangles(runs, capsys) -> None:
    triangles = "toy:triangles?size=12&examples=50"
    words = (runs / "triangles", triangles, "--manifold", "-n", 8)
    found = measured(capsys, *words, "--manifold-delta", 100)
    entry = found["metrics"]["manifold"]
    assert (entry["precision"], entry["recall"], entry["f1"]) == (1, 1, 1)
    assert 0 < entry["median_to_manifold"] < 12
    assert found["protocol"]["settings"]["manifold"]["manifold"]["size"] == 12
    again = measured(capsys, *words, "--manifold-delta", 0.01)
    assert protocol_differences(found, again) == ["manifold.delta: 100.0 against 0.01"]
    strict = again["metrics"]["manifold"]
    assert (strict["precision"], strict["recall"], strict["f1"]) == (0, 0, 0)


# --- mistakes ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["gan", "--probe"], 2, "real data is needed"),
        (["gan", "digits@test", "--probe"], 2, "names one part"),
        (["gan", "digits", "--probe", "--probe-labels", "many"], 2, "whole numbers"),
        (["gan", "digits", "--probe", "--probe-labels", "1"], 2, "at least 2"),
        (["gan", "digits", "--anomaly"], 2, "nothing says what is anomalous"),
        (["gan", "digits", "--anomaly", "--anomaly-class", "10"], 2, "no such label"),
        (["gan", "digits", "--anomaly", "--anomaly-by", "guess"], 2, "unknown"),
        (["normal", "digits", "--anomaly", "--anomaly-by", "discriminator"], 5, "discriminator"),
        (
            ["gan", "digits", "--anomaly", "--anomaly-class", "1", "--anomaly-data", "digits"],
            2,
            "both are given",
        ),
        (["gan", "digits", "--probe", "--require", "probe.rows<1"], 2, "probe.rows is no number"),
        (["gan", "digits", "--probe", "--require", "probe.of<1"], 2, "probe.of is no number"),
        (["normal", "digits", "--nll", "--require", "nll.kind<1"], 2, "nll.kind is no number"),
        (["gan", "digits", "--probe", "--require", "probe.error<1"], 2, "has no field"),
        (["gan", "digits", "--manifold"], 2, "no distance to a manifold"),
        (["gan", "toy:triangles", "--manifold", "--manifold-delta", "0"], 2, "above 0"),
        (
            ["triangles", "toy:triangles?examples=9", "--anomaly", "--anomaly-class", "1"],
            4,
            "no labels",
        ),
    ],
)
def test_mistakes_have_their_exit_code(words, code, says, runs, capsys) -> None:
    error = measured(capsys, runs / words[0], *words[1:], code=code)["error"]
    assert says in f"{error['thing']} {error['reason']}"


def test_unasked_only_what_is_quick_is_taken(runs, capsys) -> None:
    found = measured(capsys, runs / "gan", "digits", "--features", "pixels", "-n", 20)
    assert "fd" in found["metrics"]
    assert not {"probe", "manifold", "anomaly"} & set(found["metrics"])
