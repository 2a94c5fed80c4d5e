"""The small statistics against signals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_runs import wander

from genctl.report.signals import exponential, growth, lasting, median, smooth, spread, swing


@pytest.mark.parametrize("period", [5, 8, 13, 20])
@pytest.mark.parametrize("shape", ["sine", "square", "sawtooth"])
def test_swing_finds_the_period_of_a_noisy_wave(period, shape) -> None:
    rng = np.random.default_rng(period)
    phase = np.arange(120) / period
    wave = {
        "sine": np.sin(2 * np.pi * phase),
        "square": np.sign(np.sin(2 * np.pi * phase + 0.01)),
        "sawtooth": 2 * (phase % 1) - 1,
    }[shape]
    found = swing(3 + 0.01 * np.arange(120) + wave + rng.normal(0, 0.25, 120))
    assert found is not None
    remainder = found.period / period - round(found.period / period)
    assert abs(remainder) <= 1 / period
    assert 1.5 < found.size < 3.0  # from −1 to 1, and the noise on top


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8, 0.95])
def test_swing_takes_noise_and_drift_for_nothing(memory) -> None:
    hits = [
        swing(wander(np.random.default_rng(seed), n, 1.0, memory)) is not None
        for n in (16, 40, 100, 200)
        for seed in range(50)
    ]
    assert sum(hits) <= 0.02 * len(hits)


def test_swing_of_decays_ramps_and_constants_is_none() -> None:
    x = np.arange(100)
    for values in (np.exp(-x / 10), np.sqrt(x), np.ones(100), x**2.0, np.full(100, np.nan)):
        assert swing(values) is None
    assert swing(np.sin(x[:10])) is None  # too short to say


def test_lasting_must_reach_the_end_and_be_long() -> None:
    known = np.ones(50, dtype=bool)
    rows = np.arange(50)
    assert lasting(rows >= 30, known) == 30
    assert lasting((rows >= 20) & (rows < 45), known) is None  # over
    assert lasting(rows >= 47, known) is None  # too short
    assert lasting(rows < 0, known) is None
    assert lasting((rows >= 20) & (rows % 15 != 0), known) == 20  # exceptions now and then
    assert lasting(rows >= 0, rows < 3) is None  # hardly anything known


def test_growth_wants_a_rise_that_goes_on() -> None:
    x = np.arange(60.0)
    factor, first = growth(np.exp(x / 6), 1e-9)
    assert factor > 100
    assert 20 < first < 40
    assert growth(np.ones(60), 1e-9) is None
    spike = np.ones(60)
    spike[25:30] = 1e6
    assert growth(spike, 1e-9) is None  # it came back
    assert growth(1e-6 * np.exp(x / 6), 1.0) is None  # growth from nothing to nothing
    assert growth(np.exp(x / 6)[:5], 1e-9) is None


def test_exponential_tells_what_multiplies_itself_from_what_counts() -> None:
    x = np.linspace(0, 1, 60)
    assert exponential(np.exp(12 * x)) > 1000
    assert exponential(np.exp(3 * x)) is None  # too little
    for counted in (1e9 * x, 1e9 * x**2, np.full(60, 7.0), np.zeros(60)):
        assert exponential(counted) is None
    assert exponential(np.exp(12 * np.minimum(x, 0.5))) is None  # it has stopped
    assert exponential(np.exp(12 * x)[:5]) is None


def test_smooth_median_and_spread_skip_holes() -> None:
    values = np.array([1.0, np.nan, 1.0, 9.0, 1.0, 1.0])
    assert np.array_equal(smooth(values), [1, np.nan, 5, 1, 1, 1], equal_nan=True)
    assert median(values, 2) == 1.0
    assert np.isnan(median(None))
    assert np.isnan(spread(np.array([np.nan])))
    assert spread(np.linspace(0, 1, 101)) == pytest.approx(0.9)
