"""Walks in latent space, against their defining properties and closed forms in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genctl.latent.interpolation import kind_for, lerp, slerp, walk

FLOAT = st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: 0.0 if abs(v) < 1e-6 else v)


@st.composite
def pairs(draw: st.DrawFn, smallest: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    size = draw(st.integers(smallest, 8))
    rows = [draw(st.lists(FLOAT, min_size=size, max_size=size)) for _ in range(2)]
    return torch.tensor(rows[0], dtype=torch.float64), torch.tensor(rows[1], dtype=torch.float64)


def of_size(size: int) -> st.SearchStrategy[tuple[torch.Tensor, ...]]:
    end = st.lists(FLOAT, min_size=size, max_size=size)
    return st.tuples(end, end).map(lambda p: tuple(torch.tensor(e).double() for e in p))


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a / a.norm(), b / b.norm()
    return float(2 * torch.atan2((a - b).norm(), (a + b).norm()))


@pytest.mark.parametrize("way", [slerp, lerp])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ends_are_exact_and_the_dtype_is_kept(way, dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(32, 100, generator=generator).to(dtype)
    b = torch.randn(32, 100, generator=generator).to(dtype)
    assert torch.equal(way(a, b, 0.0), a)
    assert torch.equal(way(a, b, 1.0), b)
    assert way(a, b, 0.3).dtype == dtype


@settings(max_examples=200, deadline=None)
@given(pairs(), st.floats(0, 1))
def test_any_ends_give_finite_latents_and_exact_ends(pair, t) -> None:
    a, b = pair
    for way in (slerp, lerp):
        assert torch.equal(way(a, b, 0.0), a)
        assert torch.equal(way(a, b, 1.0), b)
        assert torch.isfinite(way(a, b, t)).all()


@settings(max_examples=200, deadline=None)
@given(pairs(2), st.floats(0, 1))
def test_on_the_sphere_length_is_kept_and_the_angle_is_linear(pair, t) -> None:
    a, b = pair
    if a.norm() == 0 or b.norm() == 0:
        return
    a, b = a / a.norm(), b / b.norm()
    theta, between = angle(a, b), slerp(a, b, t)
    assert float(between.norm()) == pytest.approx(1, abs=1e-9)
    assert angle(a, between) == pytest.approx(t * theta, abs=2e-3 if theta > 3.14 else 1e-6)


@settings(max_examples=200, deadline=None)
@given(pairs(2), st.floats(0, 1))
def test_both_ways_are_the_same_backwards(pair, t) -> None:
    a, b = pair
    size = max(1.0, float(a.norm()), float(b.norm()))
    assert torch.allclose(lerp(a, b, t), lerp(b, a, 1 - t), atol=1e-12 * size)
    if a.norm() > 0 and b.norm() > 0 and angle(a, b) < 3.1:
        assert torch.allclose(slerp(a, b, t), slerp(b, a, 1 - t), atol=1e-9 * size)


@settings(max_examples=100, deadline=None)
@given(pairs(), st.floats(0, 1))
def test_equal_ends_stay_where_they_are(pair, t) -> None:
    a, _ = pair
    assert torch.equal(lerp(a, a, t), a)
    assert torch.allclose(slerp(a, a, t), a, rtol=1e-14, atol=0)


@settings(max_examples=100, deadline=None)
@given(pairs(2), st.floats(0, 1), st.floats(0.1, 10))
def test_opposite_ends_go_round_the_origin(pair, t, stretch) -> None:
    a, _ = pair
    if a.norm() == 0:
        return
    between = slerp(a, -stretch * a, t)
    length = float(a.norm()) * ((1 - t) + t * stretch)
    assert float(between.norm()) == pytest.approx(length, rel=1e-9)
    assert angle(a, between) == pytest.approx(t * math.pi, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(pairs(2))
def test_no_walk_leaves_for_infinity(pair) -> None:
    """Nearly opposite ends of unequal lengths meet far outside by the formula alone."""
    a, b = pair
    longest = max(float(a.norm()), float(b.norm()))
    assert walk(a, b, 33).norm(dim=-1).max() <= 2.01 * longest


@pytest.mark.parametrize("off", [1e-12, 1e-4, 9e-4, 1.1e-3, 1e-2, 0.1])
def test_nearly_opposite_ends_of_unequal_lengths_go_round_between_them(off) -> None:
    a = torch.tensor([1.0, 0.0]).double()
    b = 3 * torch.tensor([math.cos(math.pi - off), math.sin(math.pi - off)]).double()
    lengths = walk(a, b, 9).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.linspace(1, 3, 9).double())


def test_opposite_ends_in_float32() -> None:
    a = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
    between = slerp(a, -a, 0.5)
    assert torch.allclose(between.norm(dim=1), a.norm(dim=1), rtol=1e-5)
    assert ((between * a).sum(1) / a.norm(dim=1) ** 2).abs().max() < 1e-5


def test_one_dimension_and_zero_fall_back_to_the_line() -> None:
    assert slerp(torch.tensor([2.0]), torch.tensor([-2.0]), 0.25).item() == pytest.approx(1.0)
    zero, b = torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(slerp(zero, b, 0.5), b / 2)
    assert torch.equal(slerp(zero, zero, 0.5), zero)


def test_slerp_is_the_formula_of_white_2016_for_ends_of_different_length() -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(16, 10, dtype=torch.float64, generator=generator)
    b = 3 * torch.randn(16, 10, dtype=torch.float64, generator=generator)
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    omega = torch.arccos(cosine).unsqueeze(1)
    for t in (0.1, 0.5, 0.85):
        expected = (
            torch.sin((1 - t) * omega) / torch.sin(omega) * a
            + torch.sin(t * omega) / torch.sin(omega) * b
        )
        assert torch.allclose(slerp(a, b, t), expected, rtol=1e-10)


def test_a_quarter_circle() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    expected = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    assert torch.allclose(slerp(a, b, 1 / 3), expected)
    assert torch.allclose(lerp(a, b, 0.25), torch.tensor([0.75, 0.25]))


def test_huge_and_tiny_latents_do_not_overflow() -> None:
    for size in (1e30, 1e-30):  # their squares are not float32 numbers
        a, b = torch.tensor([size, 0.0]), torch.tensor([0.0, size])
        expected = torch.tensor([size, size]) * math.sqrt(0.5)
        assert torch.allclose(slerp(a, b, 0.5), expected, rtol=1e-5, atol=0)


def test_rows_are_independent_and_may_have_their_own_t() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    t = torch.tensor([0.0, 0.4, 1.0])
    for way in (slerp, lerp):
        together = way(a, b, t)
        for i in range(3):
            assert torch.allclose(together[i], way(a[i], b[i], float(t[i])))


def test_walk_has_both_ends_even_steps_and_the_shape_of_its_rows() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(6, 8, generator=generator), torch.randn(6, 8, generator=generator)
    for kind, way in (("slerp", slerp), ("lerp", lerp)):
        path = walk(a, b, 10, kind)
        assert path.shape == (6, 10, 8)
        assert torch.equal(path[:, 0], a)
        assert torch.equal(path[:, -1], b)
        assert torch.equal(path[:, 3], way(a, b, 3 / 9))
    assert walk(a[0], b[0], 2).shape == (2, 8)


def test_walk_refuses_fewer_than_its_ends_and_other_kinds() -> None:
    a = torch.zeros(2)
    with pytest.raises(ValueError, match="two ends"):
        walk(a, a, 1)
    with pytest.raises(ValueError, match="slerp or lerp"):
        walk(a, a, 3, "spline")


def test_the_prior_decides_the_natural_walk() -> None:
    assert [kind_for(geometry) for geometry in ("sphere", "flat", None)] == [
        "slerp",
        "lerp",
        "slerp",
    ]


@settings(max_examples=100, deadline=None)
@given(
    pairs(),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from(["free", "equal", "opposite", "from zero"]),
    st.integers(2, 7),
)
def test_a_walk_in_any_precision_between_any_ends_begins_and_ends_there(
    pair, dtype, how, steps
) -> None:
    a, b = (end.to(dtype) for end in pair)
    b = {"free": b, "equal": a.clone(), "opposite": -a, "from zero": b}[how]
    a = torch.zeros_like(a) if how == "from zero" else a
    for kind in ("slerp", "lerp"):
        path = walk(a, b, steps, kind)
        assert path.dtype == dtype
        assert path.shape == (steps, len(a))
        assert torch.equal(path[0], a)
        assert torch.equal(path[-1], b)
        assert torch.isfinite(path).all()
        if how == "equal":
            assert torch.allclose(path.double(), a.double().expand_as(path), rtol=1e-2, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6).flatmap(lambda d: st.lists(of_size(d), min_size=1, max_size=4)))
def test_a_batch_of_walks_is_each_walk_by_itself(rows) -> None:
    a, b = (torch.stack([row[i] for row in rows]) for i in range(2))
    for kind in ("slerp", "lerp"):
        together = walk(a, b, 5, kind)
        for i, (first, last) in enumerate(rows):
            alone = walk(first, last, 5, kind)
            assert torch.allclose(together[i], alone, rtol=1e-12, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(pairs(2), st.integers(3, 9))
def test_steps_along_a_great_circle_are_equal_angles(pair, steps) -> None:
    a, b = pair
    if a.norm() == 0 or b.norm() == 0 or angle(a, b) > 3.1:
        return
    path = walk(a / a.norm(), b / b.norm(), steps, "slerp")
    angles = [angle(path[i], path[i + 1]) for i in range(steps - 1)]
    assert angles == pytest.approx([angle(a, b) / (steps - 1)] * (steps - 1), abs=1e-6)
