"""M5: mode coverage against values worked by hand and the probabilities of the mixture itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from genctl.cli.main import main
from genctl.data.toys import grid, ring
from genctl.metrics.measure import UndefinedError
from genctl.metrics.modes import coverage, reverse_kl
from genctl.randomness import RandomStream

THREE = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def test_by_hand():
    """std ½: of high quality within 1.5. Two at the first mode, one at the second, two nowhere."""
    samples = np.array([[0.0, 0.0], [0.9, 1.2], [4.0, -1.0], [2.0, 2.0], [0.0, 1.75]])
    found = coverage(samples, THREE, 0.5)
    assert found.counts.tolist() == [2, 1, 0]
    assert (found.covered, found.n) == (2, 5)
    assert found.high_quality == 3 / 5
    assert found.least_share == 0.0
    p = [2 / 3, 1 / 3]
    assert found.kl == pytest.approx(sum(x * math.log(3 * x) for x in p), rel=1e-12)


def test_three_deviations_are_inside():
    """The boundary itself counts (0.9² + 1.2² = 1.5²), the next number beyond does not."""
    on, beyond = np.array([[0.9, 1.2]]), np.array([[np.nextafter(1.5, 2.0), 0.0]])
    assert coverage(on, THREE, 0.5).high_quality == 1.0
    assert coverage(beyond, THREE, 0.5).high_quality == 0.0
    assert coverage(beyond, THREE, 0.5, within=3.1).high_quality == 1.0


def test_a_sample_belongs_to_its_nearest_mode_only():
    close = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert coverage(np.array([[0.6, 0.0]]), close, 1.0).counts.tolist() == [0, 1]


def test_nothing_near_a_mode_has_no_divergence_and_nan_has_no_quality():
    found = coverage(np.array([[9.0, 9.0], [math.nan, 0.0], [math.inf, 0.0]]), THREE, 0.5)
    assert (found.covered, found.high_quality, found.kl) == (0, 0.0, None)
    mixed = coverage(np.array([[0.0, 0.0], [math.nan, math.nan]]), THREE, 0.5)
    assert mixed.counts.tolist() == [1, 0, 0]
    assert mixed.high_quality == 0.5


@pytest.mark.parametrize(
    ("counts", "value"),
    [([5, 5, 5, 5], 0.0), ([7, 0, 0, 0], math.log(4)), ([3, 3, 0, 0], math.log(2))],
)
def test_reverse_kl(counts, value):
    assert reverse_kl(np.array(counts)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("toy", [ring(), grid()], ids=["ring", "grid"])
def test_what_the_mixture_itself_scores(toy):
    """High quality 1 − e^(−9/2) within four standard errors; KL about (K − 1) / 2N."""
    n, modes = 20_000, len(toy.modes)
    found = coverage(toy.draw(n, RandomStream(0, "x")).numpy(), toy.modes.numpy(), toy.std)
    expected = 1 - math.exp(-4.5)
    assert found.covered == modes
    assert abs(found.high_quality - expected) < 4 * math.sqrt(expected * (1 - expected) / n)
    assert found.kl == pytest.approx((modes - 1) / (2 * n), rel=0.8)


def test_what_cannot_be_scored():
    with pytest.raises(UndefinedError, match="no sample"):
        coverage(np.zeros((0, 2)), THREE, 0.5)
    with pytest.raises(UndefinedError, match="3 dimensions, modes of 2"):
        coverage(np.zeros((4, 3)), THREE, 0.5)


def run_json(capsys, *words):
    code = main(["evaluate", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_scores_2500_points_against_the_toy(tmp_path, capsys):
    """Points of five of the eight modes, a tenth of them far away."""
    toy = ring()
    mode = np.arange(3000) % 5
    points = toy.modes.numpy()[mode].astype(np.float32)
    points[::10] += 1.0
    np.savez(tmp_path / "points.npz", points=points)
    words = (tmp_path / "points.npz", "toy:ring", "--modes", "--require", "modes.covered>=5")
    code, found = run_json(capsys, *words)
    assert code == 0
    entry = found["metrics"]["modes"]
    assert (entry["covered"], entry["total"]) == (5, 8)
    assert entry["high_quality"] == pytest.approx(0.9, abs=0.01)
    assert sum(entry["counts"]) == round(2500 * entry["high_quality"])
    assert entry["counts"][0] < min(entry["counts"][1:5])
    assert entry["least_share"] == 0.0
    assert found["protocol"]["settings"]["modes"]["n"] == 2500
    assert found["n_real"] is None
    code, _ = run_json(capsys, *words[:3], "--require", "modes>=6")
    assert code == 3
    assert main(["evaluate", *map(str, words[:3])]) == 0
    assert "5 of 8 covered, 90.0% of high quality" in capsys.readouterr().out


def test_the_command_asks_for_a_mixture(tmp_path, capsys):
    np.savez(tmp_path / "points.npz", points=np.zeros((30, 2), np.float32))
    code, found = run_json(capsys, tmp_path / "points.npz", "toy:moons", "--modes")
    assert code == 2
    assert "no mixture of Gaussians" in found["error"]["reason"]
    assert "toy:ring" in found["error"]["remedy"]
    code, found = run_json(capsys, tmp_path / "points.npz", "toy:moons")
    assert code == 0
    assert "modes" not in found["metrics"]
    code, found = run_json(capsys, tmp_path / "points.npz", "toy:ring")
    assert code == 0
    assert found["metrics"]["modes"]["covered"] == 0


def test_points_that_are_stored_mode_by_mode_are_all_seen(tmp_path, capsys):
    points = np.repeat(ring().modes.numpy().astype(np.float32), 1250, axis=0)
    np.savez(tmp_path / "points.npz", points=points)
    _, found = run_json(capsys, tmp_path / "points.npz", "toy:ring", "--modes")
    assert found["metrics"]["modes"]["covered"] == 8
    assert found["metrics"]["modes"]["least_share"] > 0.1
