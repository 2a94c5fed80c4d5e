from __future__ import annotations

import math

import numpy as np
import pytest

from genctl.metrics import accuracy, likelihood
from genctl.metrics.measure import (
    Evidence,
    LogLikelihoods,
    Predictions,
    Settings,
    UndefinedError,
    table,
)


def test_uniform_over_256_levels_is_eight_bits():
    """log p = −D log 256 for every image: 8 bits a dimension, whatever D."""
    for dimensions in (1, 64, 3072):
        values = np.full(5, -dimensions * math.log(256))
        entry = likelihood.summary(LogLikelihoods(values, "exact", dimensions, "test"))
        assert entry["bits_per_dim"] == pytest.approx(8.0)
        assert entry["nats"] == pytest.approx(dimensions * math.log(256))
        assert entry["standard_error"] == pytest.approx(0.0)
        assert entry["kind"] == "exact"


def test_standard_error_by_hand():
    entry = likelihood.summary(LogLikelihoods(np.array([-1.0, -3.0]), "lower_bound", 2, "test"))
    assert entry["nats"] == 2.0
    assert entry["standard_error"] == pytest.approx(math.sqrt(2.0) / math.sqrt(2.0))
    assert entry["n"] == 2


def test_split_and_way_go_to_the_protocol():
    evidence = Evidence(likelihood=LogLikelihoods(np.zeros(3), "estimate", 2, "all", "AIS"))
    table()["nll"].take(evidence, Settings())
    assert evidence.facts["nll"] == {
        "split": "all",
        "how": "AIS",
        "n": 3,
        "dimensions": 2,
    }


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_value_that_is_not_finite_is_said_not_averaged(bad):
    with pytest.raises(UndefinedError, match="1 of 2"):
        likelihood.summary(LogLikelihoods(np.array([-1.0, bad]), "exact", 2, "test"))


def test_accuracy_counts_labelled_examples_only():
    found = Predictions(np.array([0, 1, 2, 2, 1]), np.array([0, 1, 2, 0, -1]), "test")
    entry = accuracy.summary(found)
    assert entry["value"] == 0.75
    assert entry["n"] == 4
    assert entry["standard_error"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    with pytest.raises(UndefinedError, match="label"):
        accuracy.summary(Predictions(np.array([0]), np.array([-1]), "test"))


def test_every_file_with_a_measure_is_in_the_table():
    expected = {"fid", "is", "kid", "nll", "accuracy", "agreement", "clusters", "modes"}
    expected |= {"prd", "pr", "dc", "memorization", "probe", "manifold", "anomaly"}
    assert set(table()) == expected
    for measure in table().values():
        assert measure.summary
        assert measure.needs
        assert measure.undefined("why") == {**dict.fromkeys(measure.fields), "reason": "why"}
    assert table()["fid"].key(standard=True) == "fid"
    assert table()["fid"].key(standard=False) == "fd"
    assert table()["kid"].key(standard=False) == "kid"
