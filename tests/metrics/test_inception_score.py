from __future__ import annotations

import math

import numpy as np
import pytest

from genctl.metrics.inception_score import log_of, log_softmax, scores
from genctl.metrics.measure import Evidence, Features, Settings, UndefinedError, table


@pytest.mark.parametrize("k", [2, 10, 100])
def test_certain_and_uniform_over_the_classes_is_their_number(k):
    one_hot = np.tile(np.eye(k), (3, 1))
    assert scores(log_of(one_hot), 1) == pytest.approx([k], rel=1e-12)


def test_all_alike_or_all_uncertain_is_one():
    assert scores(log_of(np.tile([[0.2, 0.5, 0.3]], (12, 1))), 4) == pytest.approx([1.0] * 4)
    assert scores(log_of(np.tile([[1.0, 0.0]], (6, 1))), 1) == pytest.approx([1.0])


def test_two_rows_by_hand():
    p = np.array([[0.9, 0.1], [0.3, 0.7]])
    marginal = [0.6, 0.4]
    divergence = [sum(a * math.log(a / q) for a, q in zip(row, marginal, strict=True)) for row in p]
    expected = math.exp(sum(divergence) / 2)
    assert scores(log_of(p), 1) == pytest.approx([expected], rel=1e-12)


def test_sorted_classes_need_the_shuffle():
    """One class a split scores 1; the shuffle mixes them."""
    one_hot = np.repeat(np.eye(10), 10, axis=0)
    assert scores(log_of(one_hot), 10, shuffle=False) == pytest.approx([1.0] * 10)
    assert scores(log_of(one_hot), 10).mean() > 4


def test_splits_cover_every_row_once_at_the_usual_bounds():
    """Split i is rows [i·N//splits, (i+1)·N//splits): with 7 rows in 3, sizes 2, 2, 3."""
    one_hot = np.eye(7)
    assert scores(log_of(one_hot), 3, shuffle=False) == pytest.approx([2, 2, 3])


def test_peaked_logits_do_not_underflow():
    logits = 1e4 * np.eye(5, dtype=np.float32)
    assert scores(log_softmax(logits), 1) == pytest.approx([5.0])
    np.testing.assert_allclose(np.exp(log_softmax(np.array([[0.0, math.log(3)]]))), [[0.25, 0.75]])


def test_agrees_with_torch_fidelity():
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("torch_fidelity.metric_isc")
    logits = np.random.default_rng(0).standard_normal((103, 20)).astype(np.float32) * 3
    theirs = peer.isc_features_to_metric(torch.from_numpy(logits))
    ours = table()["is"].take(Evidence(generated=Features(None, log_softmax(logits))), Settings())
    assert ours["mean"] == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours["std"] == pytest.approx(theirs["inception_score_std"], rel=1e-9)
    assert ours["splits"] == 10


def test_fewer_examples_than_splits_are_undefined():
    evidence = Evidence(generated=Features(None, log_of(np.eye(3))))
    with pytest.raises(UndefinedError, match="3 examples cannot be split into 10"):
        table()["is"].take(evidence, Settings())


def test_features_without_classes_are_undefined():
    with pytest.raises(UndefinedError, match="without class probabilities"):
        table()["is"].take(Evidence(generated=Features(np.eye(3))), Settings())
