from __future__ import annotations

import numpy as np
import pytest

from genctl.metrics.kid import mmd2, subset_values
from genctl.metrics.measure import Evidence, Features, Settings, UndefinedError, table


def enumerated(x, y):
    """The definition, pair by pair."""
    d = x.shape[1]

    def k(a, b):
        return (float(a @ b) / d + 1.0) ** 3

    within = [
        sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j)
        / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    between = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    return within[0] + within[1] - 2 * between


@pytest.mark.parametrize(("n", "m", "d"), [(5, 5, 3), (4, 9, 2), (2, 2, 1), (12, 7, 30)])
def test_pairs_enumerated(n, m, d):
    rng = np.random.default_rng(n * m * d)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 0.3
    assert mmd2(x, y) == pytest.approx(enumerated(x, y), rel=1e-10, abs=1e-12)


def test_unbiased_so_two_halves_of_one_law_average_to_zero():
    """The mean over many draws vanishes against its own standard error; a biased estimate would not."""
    rng = np.random.default_rng(0)
    draws = [mmd2(rng.random((8, 4)), rng.random((8, 4))) for _ in range(2000)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 4 * error
    assert min(draws) < 0  # it may be negative, and is not clipped
    # The diagonal that the unbiased form leaves out would lift it by far more than that.
    x = rng.random((8, 4))
    assert ((x @ x.T / 4 + 1) ** 3).diagonal().mean() / 8 > 20 * error


def test_subsets_are_those_of_torch_fidelity():
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("torch_fidelity.metric_kid")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 16)).astype(np.float32)
    y = (rng.standard_normal((50, 16)) * 1.2).astype(np.float32)
    theirs = peer.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=7, kid_subset_size=20, verbose=False
    )
    values = subset_values(x, y, subsets=7, size=20)
    assert values.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert values.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)


def test_subsets_are_clamped_to_the_smaller_side_with_a_warning():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((20, 4))
    evidence = Evidence(Features(x), Features(y))
    entry = table()["kid"].take(evidence, Settings(kid_subsets=3))
    assert evidence.facts["kid"] == {"subsets": 3, "subset_size": 20}
    assert "subsets of 20 are used" in evidence.warnings[0]
    assert set(entry) == {"mean", "std"}


def test_whole_sets_are_computed_once_and_do_not_vary():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((25, 4)), rng.standard_normal((25, 4))
    values = subset_values(x, y, subsets=5, size=25)
    assert values == pytest.approx([enumerated(x, y)] * 5, rel=1e-10)


def test_one_example_is_undefined():
    with pytest.raises(UndefinedError, match="at least 2"):
        table()["kid"].take(
            Evidence(Features(np.ones((1, 2))), Features(np.ones((5, 2)))), Settings()
        )
