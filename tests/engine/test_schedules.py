from __future__ import annotations

import math

import pytest

from genctl.engine.schedules import Cosine, Exponential, Linear, Plateau


def test_linear():
    schedule = Linear(start=10, end=20, final=0.5)
    assert [schedule.factor(c) for c in (0, 10, 15, 20, 99)] == [1, 1, 0.75, 0.5, 0.5]


def test_cosine_with_warm_up():
    schedule = Cosine(warmup=4, end=104, final=0.1)
    assert [schedule.factor(c) for c in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule.factor(54) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert schedule.factor(1000) == pytest.approx(0.1)


def test_exponential():
    assert Exponential(decay=0.5).factor(3) == 0.125


def test_plateau_halves_after_patience_rows_without_improvement():
    schedule = Plateau(metric="m", factor=0.5, patience=3)
    seen = []
    for value in [5, 4, 3, 3.5, 3.2, 3.1, 3.05, 3.04, 3.3, 3.3, 3.3]:
        schedule.observe({"m": value})
        seen.append(schedule.factor(0))
    # best 3 at the third row; three worse rows halve it; 3.05 and 3.04 beat the new start of 3.1
    assert seen == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_plateau_ignores_missing_values_and_has_a_floor():
    schedule = Plateau(metric="m", patience=1, minimum=0.3)
    schedule.observe({})
    schedule.observe({"m": None})
    for _ in range(9):
        schedule.observe({"m": 1.0})
    assert schedule.factor(0) == 0.3
