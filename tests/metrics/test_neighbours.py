"""Distances, neighbours, precision and recall against their definitions, pair by pair in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from genctl.metrics import manifolds, neighbours
from genctl.metrics.measure import Evidence, Features, Settings, UndefinedError, table
from genctl.metrics.neighbours import between, blocks, nearest, radii


def squared(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def radius(x, k):
    """The (k + 1)-th smallest of each row: the first is the row itself."""
    return np.sqrt(np.sort(squared(x, x), axis=1)[:, k])


def naive(generated, real, k=3, dc_k=5):
    """The four definitions."""
    d = np.sqrt(squared(generated, real))
    around_real, around_generated = radius(real, k), radius(generated, k)
    own = radius(real, dc_k)
    return {
        "precision": (d <= around_real).any(1).mean(),
        "recall": (around_generated >= d.T).any(1).mean(),
        "density": (d < own).sum() / (dc_k * len(generated)),
        "coverage": (d.min(0) < own).mean(),
    }


def taken(generated, real, settings=None):
    evidence = Evidence(Features(generated), Features(real))
    entries = {n: table()[n].take(evidence, settings or Settings()) for n in ("pr", "dc")}
    found = {**entries["pr"], **entries["dc"]}
    found.pop("k")
    return found, evidence


@pytest.fixture(params=[2**26, 3000], ids=["whole", "blocks"])
def block_bytes(request, monkeypatch):
    """One block, or many small ones whose edges cut both sets."""
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize(
    ("n", "m", "d", "scale", "shift"),
    [
        (40, 40, 5, 1.0, 0.3),
        (60, 35, 2, 1.3, 0.0),
        (30, 50, 1, 0.8, 0.2),
        (25, 25, 64, 1.1, 0.1),
        (6, 60, 3, 1.0, 0.0),
    ],
)
def test_as_defined(n, m, d, scale, shift):
    rng = np.random.default_rng(n * m * d)
    real = rng.standard_normal((m, d)).astype(np.float32)
    generated = (rng.standard_normal((n, d)) * scale + shift).astype(np.float32)
    found, evidence = taken(generated, real)
    assert found == pytest.approx(naive(generated, real), abs=1e-12)
    assert 0 < found["precision"] <= 1
    assert not evidence.warnings
    five, _ = taken(generated, real, Settings(pr_k=5))
    expected = naive(generated, real, k=5)
    assert five == pytest.approx(expected, abs=1e-12)  # dc keeps its own k


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("far", [1e6, 1e9])
@pytest.mark.parametrize("in_front", [True, False])
def test_one_row_far_away_misplaces_no_other(far, in_front):
    """Products of rows centred on their mean would be off by more than all other distances."""
    rng = np.random.default_rng(1)
    real, generated = 0.01 * rng.standard_normal((2, 150, 20))
    outlier = np.full((1, 20), far)
    real = np.concatenate([outlier, real] if in_front else [real, outlier])
    found, _ = taken(generated, real)
    assert found == pytest.approx(naive(generated, real), abs=1e-12)
    distances, index = nearest(generated, real, 5)
    expected = squared(generated, real)
    assert np.array_equal(index, np.argsort(expected, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :5], rtol=1e-12)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_what_rounding_hides_is_found(scale):
    """Both sets far from the centre, which is the median of the other half of the rows."""
    rng = np.random.default_rng(2)
    near = 1e-3 * rng.standard_normal((120, 12)) + scale
    y = np.concatenate([rng.standard_normal((130, 12)), near])
    x = near[:40] + 1e-4 * rng.standard_normal((40, 12))
    _, index = nearest(x, y, 3)
    assert np.array_equal(index, np.argsort(squared(x, y), axis=1, kind="stable")[:, :3])


def test_far_from_the_origin():
    """Near 100 with spread 0.1 float32 products lose all digits; the definition is met exactly."""
    rng = np.random.default_rng(0)
    real = (100 + 0.1 * rng.standard_normal((200, 32))).astype(np.float32)
    generated = (100 + 0.1 * rng.standard_normal((200, 32)) * 1.1).astype(np.float32)
    found, _ = taken(generated, real)
    assert found == pytest.approx(naive(generated, real), abs=1e-12)
    product = (real**2).sum(1)[:, None] + (real**2).sum(1) - 2 * real @ real.T
    wrong = np.sort(np.sqrt(np.maximum(product, 0)), axis=1)[:, 3]
    assert np.abs(wrong / radius(real, 3) - 1).max() > 0.1  # the case can fail


@pytest.mark.usefixtures("block_bytes")
def test_equal_rows_are_at_distance_zero():
    rng = np.random.default_rng(1)
    real = (50 + rng.standard_normal((70, 64))).astype(np.float32)
    generated = real[rng.permutation(70)[:30]]
    distances, index = nearest(generated, real, 2)
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 1).all()
    assert (real[index[:, 0]] == generated).all()


@pytest.mark.usefixtures("block_bytes")
def test_neighbours_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((50, 7)), rng.standard_normal((80, 7))
    distances, index = nearest(x, y, 4)
    theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(y).kneighbors(x)
    np.testing.assert_allclose(np.sqrt(distances), theirs[0], rtol=1e-10)
    assert (index == theirs[1]).all()
    own = NearestNeighbors(n_neighbors=6, algorithm="kd_tree").fit(y).kneighbors()[0]
    for k, found in zip((1, 3, 6), radii(y, 1, 3, 6), strict=True):
        np.testing.assert_allclose(np.sqrt(found), own[:, k - 1], rtol=1e-10)


def test_the_bound_on_the_error_holds():
    rng = np.random.default_rng(3)
    for shift, scale in ((0, 1), (1e3, 1e-3), (0, 1e6)):
        x = rng.standard_normal((30, 100)) * scale + shift
        y = np.concatenate([x[:10], x[10:20] * (1 + 1e-9), rng.standard_normal((9, 100))])
        (block,) = blocks(x, y)
        exact = squared(x, y)
        assert (np.abs(block.values - exact) <= block.error).all()
        assert (block.error <= 1e-11 * (1 + exact.max())).all()


def test_a_tie_is_a_tie():
    """On a grid of integers almost every decision is a tie; ≤ and < differ, and neither wavers."""
    grid = np.stack(np.meshgrid(range(6), range(6)), -1).reshape(-1, 2).astype(np.float32)
    offset = np.float32(1e4)
    for rows in (grid, grid + offset, grid * np.float32(0.1)):
        found, _ = taken(rows, rows.copy())
        assert found == pytest.approx(naive(rows, rows), abs=1e-12)
    close = radii(grid, 3)[0]
    for block in blocks(grid, grid):
        assert (block.within(close[None], closed=True) == (squared(grid, grid) <= close)).all()
        assert (block.within(close[None], closed=False) == (squared(grid, grid) < close)).all()


def test_identical_sets():
    rows = np.random.default_rng(4).standard_normal((50, 6))
    found, _ = taken(rows, rows)
    assert (found["precision"], found["recall"], found["coverage"]) == (1.0, 1.0, 1.0)
    assert found["density"] == pytest.approx(1.0)  # the row itself and 4 of its 5 neighbours


def test_duplicates_make_radii_zero_and_a_warning():
    rows = np.repeat(np.random.default_rng(5).standard_normal((20, 8)), 10, axis=0)
    found, evidence = taken(rows, rows)
    assert (found["precision"], found["recall"]) == (1.0, 1.0)
    assert (found["density"], found["coverage"]) == (0.0, 0.0)
    assert sum("radius 0" in text for text in evidence.warnings) == 3
    assert "200 of 200 generated" in evidence.warnings[0]


def test_a_collapsed_generator_is_measured_in_no_time(monkeypatch):
    """All samples equal: every pair is a tie, and is measured once."""
    asked = []

    def counting(x, y, rows, columns):
        asked.append(len(rows))
        return between(x, y, rows, columns)

    real = np.random.default_rng(6).standard_normal((100, 4))
    generated = np.repeat(real[:1], 900, axis=0)
    monkeypatch.setattr(neighbours, "between", counting)
    found, _ = taken(generated, real)
    assert found["precision"] == 1.0
    assert found["recall"] == 0.01
    assert sum(asked) < 900 * 40


def test_the_fewest_rows():
    """k + 1 rows have k others; k rows do not, and say so."""
    rng = np.random.default_rng(7)
    for n, m in ((4, 6), (4, 9), (9, 6)):
        generated, real = rng.standard_normal((n, 2)), rng.standard_normal((m, 2))
        assert taken(generated, real)[0] == pytest.approx(naive(generated, real), abs=1e-12)
    few = Evidence(Features(rng.standard_normal((3, 2))), Features(rng.standard_normal((5, 2))))
    with pytest.raises(UndefinedError, match="k = 3 other examples need 4 a side, found 3"):
        table()["pr"].take(few, Settings())
    with pytest.raises(UndefinedError, match="k = 5 other examples need 6 real ones, found 5"):
        table()["dc"].take(few, Settings())
    assert manifolds.both(np.ones((1, 2)), rng.standard_normal((6, 2)), 3, 5)[1] is not None


def test_precision_is_of_the_generated():
    """Samples of one of two clusters are precise and recall half."""
    rng = np.random.default_rng(8)
    real = rng.standard_normal((200, 3))
    real[100:] += 50
    found, _ = taken(rng.standard_normal((200, 3)), real)
    assert found["precision"] > 0.8
    assert found["recall"] < 0.52
    assert found["coverage"] < 0.52


def test_memory_is_bounded_by_blocks_not_by_pairs(monkeypatch):
    """3,000 × 3,000 distances are 72 MB in float64; two blocks of 1 MB are held."""
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 2**20)
    rng = np.random.default_rng(9)
    x, y = (rng.standard_normal((3000, 16)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    manifolds.both(x, y, 3, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20
