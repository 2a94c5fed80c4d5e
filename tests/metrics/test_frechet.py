from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from genctl.metrics.frechet import Gaussian, distance, fit, trace_of_root
from genctl.metrics.measure import Evidence, Features, Settings, UndefinedError, table


def spd(rng, d):
    a = rng.standard_normal((d, d))
    return a @ a.T / d + 0.1 * np.eye(d)


def by_sqrtm(mean1, cov1, mean2, cov2):
    root = scipy.linalg.sqrtm(cov1 @ cov2).real
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root))


def rows_with(rng, n, d, shift=0.0):
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + shift


@pytest.mark.parametrize("d", [1, 2, 7, 40, 530])  # 530: above EXACT_BELOW, by eigenvalues
def test_random_covariances_agree_with_scipys_matrix_root(d):
    rng = np.random.default_rng(d)
    one = Gaussian(rng.standard_normal(d), 99, covariance=spd(rng, d))
    two = Gaussian(rng.standard_normal(d), 99, covariance=spd(rng, d))
    expected = by_sqrtm(one.mean, one.full(), two.mean, two.full())
    assert distance(one, two) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert distance(two, one) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_one_dimension_in_closed_form():
    x, y = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0], [10.0]])
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert distance(fit(x), fit(y)) == pytest.approx(float(expected), rel=1e-12)


def test_diagonal_covariances_in_closed_form():
    s, t, shift = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5]), np.array([1.0, 0.0, -2.0])
    one = Gaussian(np.zeros(3), 9, covariance=np.diag(s**2))
    two = Gaussian(shift, 9, covariance=np.diag(t**2))
    expected = float((shift**2).sum() + ((s - t) ** 2).sum())
    assert distance(one, two) == pytest.approx(expected, rel=1e-12)


def test_a_covariance_that_is_no_diagonal_rotates_away():
    """Both sides rotated together: the distance is of the distributions, not of the axes."""
    rng = np.random.default_rng(3)
    x, y = rows_with(rng, 50, 6), rows_with(rng, 70, 6, 1.0)
    q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert distance(fit(x @ q), fit(y @ q)) == pytest.approx(distance(fit(x), fit(y)), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 100), (100, 30), (100, 100), (700, 90)])
@pytest.mark.parametrize("d", [60, 560])
def test_singular_covariances_equal_the_space_they_live_in(n, m, d):
    """Five dimensions embedded isometrically in many: the distance is that of the five."""
    rng = np.random.default_rng(n + m + d)
    x, y = rows_with(rng, n, 5), rows_with(rng, m, 5, 0.5)
    basis = np.linalg.qr(rng.standard_normal((d, 5)))[0].T
    expected = by_sqrtm(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))
    scale = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False))
    found = distance(fit(x @ basis), fit(y @ basis))
    assert found == pytest.approx(expected, abs=2e-6 * scale)


@pytest.mark.parametrize(("n", "d"), [(20, 8), (8, 20), (40, 40)])
def test_distance_to_itself_is_zero_and_never_negative(n, d):
    rng = np.random.default_rng(0)
    x = rows_with(rng, n, d)
    assert distance(fit(x), fit(x.copy())) == 0.0
    shuffled = distance(fit(x), fit(x[rng.permutation(n)]))
    assert 0.0 <= shuffled < 1e-9 * np.trace(np.cov(x, rowvar=False))


def test_statistics_are_float64_with_ddof_one_whatever_the_input():
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((9000, 3)) * 0.1 + 1000.0).astype(np.float32)  # two and a bit blocks
    fitted = fit(x)
    np.testing.assert_allclose(fitted.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.full(), np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9)


def test_large_thin_sets_agree_with_the_full_covariances():
    """More rows than EXACT_BELOW on both sides, fewer than dimensions."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((600, 640)), 1.5 * rng.standard_normal((620, 640))
    thin = trace_of_root(fit(x), fit(y))
    expected = np.linalg.svd(fit(x).centred @ fit(y).centred.T, compute_uv=False).sum()
    assert thin == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(540, 540), (540, 900), (900, 900)])
def test_one_direction_far_above_the_others_costs_no_digits(n, m):
    """Independent directions of known deviation, one of them 10,000 times the rest."""
    d = 600
    rng = np.random.default_rng(6)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    deviations = np.where(np.arange(d) == 0, 1e4, 1.0)
    sets = []
    for rows, scale in ((n, 1.0), (m, 1.5)):  # exactly uncorrelated rows of exact variance
        rank = min(rows - 1, d)
        centred = np.linalg.qr(np.c_[np.ones(rows), rng.standard_normal((rows, rank))])[0][:, 1:]
        chosen = deviations[:rank] * scale
        sets.append((np.sqrt(rows - 1) * centred * chosen) @ basis[:rank])
    shared = min(n - 1, m - 1, d)
    expected = 1.5 * (deviations[:shared] ** 2).sum()
    found = trace_of_root(*(fit(rows) for rows in sets))
    assert found == pytest.approx(expected, rel=2e-8)


def test_one_example_is_undefined_and_few_are_warned_of():
    measure = table()["fid"]
    one = Evidence(generated=Features(np.zeros((1, 2))), real=Features(np.zeros((5, 2))))
    with pytest.raises(UndefinedError, match="at least 2"):
        measure.take(one, Settings())
    rng = np.random.default_rng(0)
    few = Evidence(Features(rng.random((4, 6))), Features(rng.random((9, 6))))
    measure.take(few, Settings())
    assert "4 examples of 6 features" in few.warnings[0]
    many = Evidence(Features(rng.random((40, 6))), Features(rng.random((90, 6))))
    measure.take(many, Settings())
    assert many.warnings == []


def test_spaces_of_different_size_are_not_compared():
    evidence = Evidence(Features(np.zeros((5, 2))), Features(np.zeros((5, 3))))
    with pytest.raises(UndefinedError, match="of 2 and of 3 dimensions"):
        table()["fid"].take(evidence, Settings())
