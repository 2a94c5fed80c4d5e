"""PRD against the formulas of the paper, worked by hand, and through the command line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from genctl.cli.main import main
from genctl.metrics.measure import Evidence, Features, Settings, UndefinedError, table
from genctl.metrics.prd import curve, f_score, histograms, of_features


def naive(generated, real, angles=1001):
    """The authors' compute_prd, one angle at a time."""
    points = []
    for angle in np.linspace(1e-10, math.pi / 2 - 1e-10, angles):
        slope = math.tan(angle)
        alpha = sum(min(slope * r, g) for g, r in zip(generated, real, strict=True))
        points.append((min(1.0, alpha), min(1.0, alpha / slope)))
    return np.array(points).T


def best(points, beta):
    return max((1 + beta**2) * p * r / (beta**2 * p + r) for p, r in points.T)


@pytest.mark.parametrize("seed", range(4))
def test_curve_and_scores_as_defined(seed):
    rng = np.random.default_rng(seed)
    generated, real = rng.dirichlet(np.ones(7)), rng.dirichlet(np.full(7, 0.5))
    found, expected = curve(generated, real), naive(generated, real)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    for beta in (8.0, 1 / 8, 1.0):
        assert f_score(*found, beta) == pytest.approx(best(expected, beta), abs=1e-12)


def test_half_of_the_modes():
    """Two of four clusters: all that is generated is right, half of what is real is reached."""
    generated, real = np.array([0.5, 0.5, 0, 0]), np.full(4, 0.25)
    precision, recall = curve(generated, real)
    assert precision.max() == pytest.approx(1.0, abs=1e-6)
    assert recall.max() == pytest.approx(0.5, abs=1e-6)
    f8, f1_8 = f_score(precision, recall, 8.0), f_score(precision, recall, 1 / 8)
    assert f8 < 0.52
    assert f1_8 > 0.97
    swapped = curve(real, generated)
    assert f_score(*swapped, 8.0) == pytest.approx(f1_8, rel=1e-6)


def test_nothing_in_common_is_zero_and_the_same_is_one():
    apart = curve(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert f_score(*apart, 8.0) == 0.0
    same = curve(np.full(5, 0.2), np.full(5, 0.2))
    assert f_score(*same, 1.0) == pytest.approx(1.0)


def test_clusters_of_features():
    """Ten far clusters, five generated: clustering finds them, wherever the origin lies."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 3)) * 100
    real = centres[np.arange(400) % 10] + rng.standard_normal((400, 3)) * 0.1
    half = centres[np.arange(400) % 5] + rng.standard_normal((400, 3)) * 0.1
    for shift in (0.0, 1e5):
        precision, recall = of_features(half + shift, real + shift)
        assert recall.max() == pytest.approx(0.5, abs=0.02)
        assert precision.max() > 0.8
        assert f_score(precision, recall, 1 / 8) > f_score(precision, recall, 8.0) + 0.2
    first, second = histograms(np.concatenate([half, real]).astype(np.float32), 400, 20, 0)
    assert first.sum() == pytest.approx(1)
    assert second.sum() == pytest.approx(1)


def taken(x, y, **settings):
    evidence = Evidence(Features(x), Features(y))
    return table()["prd"].take(evidence, Settings(**settings)), evidence


def test_unequal_sets_are_made_equal_with_a_word():
    rng = np.random.default_rng(1)
    entry, evidence = taken(rng.standard_normal((90, 2)), rng.standard_normal((60, 2)))
    assert evidence.facts["prd"]["n"] == 60
    assert "60 examples a side" in evidence.warnings[0]
    assert 0.5 < entry["f8"] <= 1
    assert len(entry["curve"]["precision"]) == len(entry["curve"]["recall"]) == 101


def test_edges():
    one = np.ones((30, 1))
    entry, _ = taken(one, one)  # fewer distinct rows than clusters
    assert entry["f1"] == pytest.approx(1.0)
    rng = np.random.default_rng(2)
    assert taken(rng.random((10, 1)), rng.random((10, 1)))[0]["f8"] >= 0
    with pytest.raises(UndefinedError, match="10 examples a side"):
        taken(rng.random((9, 1)), rng.random((9, 1)))


# --- the command --------------------------------------------------------------------------------
def run_json(capsys, *words):
    code = main(["evaluate", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def save(path, n, d=6, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    np.savez(path, features=rng.standard_normal((n, d)) + shift)
    return path


def test_stored_features_through_the_command(tmp_path, capsys):
    pair = [save(tmp_path / f"{i}.npz", 80, seed=i) for i in range(2)]
    code, found = run_json(capsys, *pair, "--prd", "--pr", "--require", "pr.recall>=0.3")
    assert code == 0
    assert set(found["metrics"]) == {"prd", "pr", "dc"}
    assert (found["metrics"]["pr"]["k"], found["metrics"]["dc"]["k"]) == (3, 5)
    settings = found["protocol"]["settings"]
    assert (settings["pr"]["inside"], settings["dc"]["inside"]) == ("<=", "<")
    assert settings["prd"] == {"n": 80, "clusters": 20, "clusterings": 10}
    code, found = run_json(capsys, *pair, "--pr", "--pr-k", 7, "--require", "dc.coverage>2")
    assert code == 3
    assert (found["metrics"]["pr"]["k"], found["metrics"]["dc"]["k"]) == (7, 5)
    assert run_json(capsys, *pair, "--prd", "--require", "prd.curve>1")[0] == 2
    assert main(["evaluate", *map(str, pair), "--prd", "--pr"]) == 0
    out = capsys.readouterr().out
    assert "precision 0." in out
    assert "density " in out
    assert "(recall), F1/8" in out


def test_too_few_are_null_with_the_reason_and_the_rest_is_taken(tmp_path, capsys):
    pair = [save(tmp_path / f"{i}.npz", 4, seed=i) for i in range(2)]
    code, found = run_json(capsys, *pair, "--prd", "--pr")
    assert code == 0
    metrics = found["metrics"]
    assert metrics["pr"]["precision"] >= 0
    assert metrics["dc"]["density"] is None
    assert "6 real ones, found 4" in metrics["dc"]["reason"]
    assert "10 examples a side" in metrics["prd"]["reason"]


def test_features_that_are_not_finite_or_not_alike(tmp_path, capsys):
    good = save(tmp_path / "good.npz", 30)
    bad = np.ones((30, 6))
    bad[4, 2] = np.nan
    np.savez(tmp_path / "bad.npz", features=bad)
    code, found = run_json(capsys, tmp_path / "bad.npz", good, "--pr")
    assert code == 4
    assert "the first is row 4" in found["error"]["reason"]
    code, found = run_json(capsys, save(tmp_path / "thin.npz", 30, d=5), good, "--pr", "--prd")
    assert code == 4
    assert "5 and of 6 dimensions" in found["error"]["reason"]
