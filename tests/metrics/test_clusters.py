from __future__ import annotations

import numpy as np
import pytest

from genctl.metrics import clusters
from genctl.metrics.measure import Evidence, Predictions, Settings, UndefinedError


def found(cluster, true):
    return clusters.summary(Predictions(np.array(cluster), np.array(true), "test"))


def test_two_clusters_of_one_class_by_hand():
    """Clusters 0 and 1 hold class 0 (3 and 2 of it), cluster 2 classes 1 and 2 (2 and 1).

    One to one: 0 → class 0, 2 → class 1, and cluster 1 gets nothing of its own: 3 + 2 of 8. By
    majority cluster 1 is class 0 as well: 3 + 2 + 2 of 8.
    """
    entry = found([0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1, 1, 2])
    assert entry == {"value": 5 / 8, "majority": 7 / 8, "clusters": 3, "n": 8}


def test_the_best_assignment_is_not_the_greedy_one():
    """Cluster 0 has 5 of class 0 and 4 of class 1, cluster 1 only 4 of class 0: 4 + 4, not 5 + 0."""
    entry = found([0] * 9 + [1] * 4, [0] * 5 + [1] * 4 + [0] * 4)
    assert entry["value"] == pytest.approx(8 / 13)
    assert entry["majority"] == pytest.approx(9 / 13)


def test_names_of_clusters_do_not_matter():
    true = np.arange(40) % 10
    assert found((true * 7 + 3) % 10, true)["value"] == 1.0


def test_examples_without_a_label_are_left_out():
    assert found([0, 1, 1], [0, 1, -1])["n"] == 2
    with pytest.raises(UndefinedError, match="label"):
        found([0, 1], [-1, -1])


def test_the_split_goes_to_the_protocol():
    evidence = Evidence(clusters=Predictions(np.array([0]), np.array([3]), "test"))
    assert clusters.MEASURE.take(evidence, Settings())["value"] == 1.0
    assert evidence.facts["clusters"] == {"split": "test"}
    with pytest.raises(UndefinedError):
        clusters.MEASURE.take(Evidence(), Settings())
