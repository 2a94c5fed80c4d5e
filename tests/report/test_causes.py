"""Which of several findings is the verdict: what began first explains what followed."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_runs import Rows, dcgan, oscillating, rows_of, sigmoid_game, wander, write

from genctl.report.curves import read_curves
from genctl.report.diagnosis import Diagnosis, diagnose


def of(tmp_path, rows: Rows) -> Diagnosis:
    return diagnose(read_curves(write(tmp_path, rows)))


def kinds(diagnosis: Diagnosis) -> list[str]:
    return [finding.kind for finding in diagnosis.findings]


def after(n: int, start: int, low: float, high: float = 0.8) -> np.ndarray:
    """Falls from one value to another over ten rows from a row on."""
    return high + (low - high) * np.clip((np.arange(n) - start) / 10, 0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_fooled_discriminator_explains_the_collapse_that_follows(seed, tmp_path) -> None:
    rng, n = np.random.default_rng(seed), 100
    logits = after(n, 5, -1.0, 0.5) + wander(rng, n, 0.1)
    rows = rows_of(sigmoid_game(logits, -logits, after(n, 50, 0.03), rng))
    found = of(tmp_path, rows)
    assert kinds(found) == ["discriminator-too-weak", "mode-collapse"]


@pytest.mark.parametrize("seed", range(5))
def test_a_discriminator_that_has_won_explains_the_collapse_that_follows(seed, tmp_path) -> None:
    rng, n = np.random.default_rng(seed), 100
    logits = after(n, 5, 8.0, 0.5) + wander(rng, n, 0.1)
    rows = rows_of(sigmoid_game(logits, -logits, after(n, 50, 0.03), rng))
    assert kinds(of(tmp_path, rows)) == ["discriminator-too-strong", "mode-collapse"]


@pytest.mark.parametrize("seed", range(5))
def test_samples_all_alike_explain_that_they_are_told_from_the_data(seed, tmp_path) -> None:
    rng, n = np.random.default_rng(seed), 100
    for end in (8.0, -1.0):
        logits = after(n, 60, end, 0.5) + wander(rng, n, 0.1)
        rows = rows_of(sigmoid_game(logits, -logits, after(n, 20, 0.03), rng))
        found = kinds(of(tmp_path, rows))
        assert found[0] == "mode-collapse"
        assert len(found) == 2


def test_a_generator_that_never_had_variety_has_not_lost_it(tmp_path) -> None:
    rng, n = np.random.default_rng(0), 100
    for end, kind in ((8.0, "discriminator-too-strong"), (-1.0, "discriminator-too-weak")):
        logits = after(n, 5, end, 0.2) + wander(rng, n, 0.1)
        rows = rows_of(sigmoid_game(logits, -logits, np.full(n, 0.18), rng))
        assert kinds(of(tmp_path, rows)) == [kind]


def test_a_little_too_weak_is_enough_where_the_samples_became_alike(tmp_path) -> None:
    """Generated examples barely above real ones: noise for a varied run, a reason for a collapse."""
    rng, n = np.random.default_rng(0), 100
    logits = np.full(n, -0.02) + wander(rng, n, 0.005)
    game = sigmoid_game(logits, -logits, after(n, 15, 0.9, 0.4), rng)
    game["loss/discriminator"] = np.full(n, 1.39) + wander(rng, n, 0.005)
    assert kinds(of(tmp_path, rows_of(game))) == ["healthy"]
    game["diversity"] = after(n, 15, 0.03, 0.5)
    assert kinds(of(tmp_path, rows_of(game))) == ["discriminator-too-weak", "mode-collapse"]
    ahead = {**game, "score/real": game["score/fake"], "score/fake": game["score/real"]}
    ahead["accuracy/discriminator"] = 1 - game["accuracy/discriminator"]
    assert kinds(of(tmp_path, rows_of(ahead))) == ["mode-collapse"]


def test_otherwise_the_surest_comes_first(tmp_path) -> None:
    rows = oscillating(np.random.default_rng(3), 150)
    for i, row in enumerate(rows):  # stays low: the weaker evidence of the two
        row["diversity"] = 0.4 if i < 10 else 0.2
    found = of(tmp_path, rows)
    assert set(kinds(found)) == {"oscillation", "mode-collapse"}
    sure = [finding.confidence for finding in found.findings]
    assert sure == sorted(sure, reverse=True)


def test_what_blew_up_comes_before_all(tmp_path) -> None:
    rng, n = np.random.default_rng(0), 100
    logits = after(n, 5, 8.0, 0.5)
    rows = rows_of(sigmoid_game(logits, -logits, after(n, 50, 0.03), rng))
    rows[-1] |= {"loss/generator": None, "nonfinite": ["loss/generator"]}
    assert kinds(of(tmp_path, rows))[0] == "divergence"


@pytest.mark.parametrize("seed", range(10))
def test_a_young_run_has_not_collapsed(seed, tmp_path) -> None:
    """A hundred and fifty steps of a generator that still makes what its first weights made."""
    rng, n = np.random.default_rng(seed), 15
    logits = np.linspace(0.2, 2.0, n) + wander(rng, n, 0.1)
    diversity = np.linspace(0.22, rng.uniform(0.11, 0.22), n) + wander(rng, n, 0.01)
    rows = rows_of(sigmoid_game(logits, -logits, diversity, rng), every=10)
    assert of(tmp_path, rows).verdict == "healthy"
    for i, row in enumerate(rows):  # a few per cent is another thing
        row["diversity"] = 0.2 if i < 6 else 0.02
    assert of(tmp_path, rows).verdict == "mode-collapse"


def test_the_same_after_thousands_of_steps_is_a_collapse(tmp_path) -> None:
    rows = dcgan(np.random.default_rng(0), 60)
    for i, row in enumerate(rows):
        row["diversity"] = 0.22 if i < 5 else 0.16
    assert of(tmp_path, rows).verdict == "mode-collapse"
