"""Area under the ROC curve: against pairs that are counted, and a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from genctl.metrics.anomaly import Z, delong, summary
from genctl.metrics.measure import UndefinedError

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12).map(np.array)


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_it_is_the_share_of_pairs_and_its_variance_that_of_either_side(normal, strange) -> None:
    beats = (strange[:, None] > normal) + 0.5 * (strange[:, None] == normal)
    area, error = delong(normal, strange)
    assert area == pytest.approx(beats.mean())
    variance = beats.mean(1).var(ddof=1) / len(strange) + beats.mean(0).var(ddof=1) / len(normal)
    assert error == pytest.approx(math.sqrt(variance))
    entry = summary(normal, strange)
    assert entry["auroc"] == pytest.approx(area)
    assert 0 <= entry["low"] <= entry["auroc"] <= entry["high"] <= 1


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = norm.cdf(1 / math.sqrt(2))
    inside = 0
    for _ in range(400):
        area, error = delong(rng.normal(size=60), rng.normal(size=40) + 1)
        assert error is not None
        inside += abs(area - truth) <= Z * error
    assert 0.92 <= inside / 400 <= 0.98  # 0.95, give or take three standard errors


def test_planted_scores() -> None:
    entry = summary(np.array([0.1, 0.2, 0.3]), np.array([0.8, 0.9]))
    assert entry["auroc"] == entry["average_precision"] == 1.0
    assert entry["chance_precision"] == 0.4
    assert (entry["n_normal"], entry["n_anomalous"]) == (3, 2)
    assert summary(np.array([0.8, 0.9]), np.array([0.1, 0.2]))["auroc"] == 0.0
    # By rank 1, 2, 3, 4 with the strange ones second and fourth: 3 of 4 pairs; (1 + 2/3) / 2.
    entry = summary(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert entry["auroc"] == 0.75
    assert entry["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_one_example_has_no_interval_and_none_no_area() -> None:
    entry = summary(np.array([0.1, 0.3]), np.array([0.2]))
    assert entry["auroc"] == 0.5
    assert entry["low"] is entry["high"] is entry["standard_error"] is None
    with pytest.raises(UndefinedError, match="0 anomalous"):
        summary(np.array([0.1]), np.empty(0))
    with pytest.raises(UndefinedError, match="1 of 3 scores"):
        summary(np.array([0.1, np.nan]), np.array([0.2]))
