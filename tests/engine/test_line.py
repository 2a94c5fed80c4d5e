"""The one-dimensional example: densities, D beside its optimum, the pictures and the film."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import integrate, stats

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import load_config
from genctl.data.dataset import open_dataset
from genctl.engine.fit import fit
from genctl.engine.line import Line, density, look_along
from genctl.engine.run import open_run
from genctl.randomness import RandomStream


def test_the_estimate_is_a_density_near_the_true_one():
    x = np.linspace(-6, 6, 601)
    samples = np.random.default_rng(0).normal(size=20_000)
    found = density(samples, x)
    assert integrate.trapezoid(found, x) == pytest.approx(1.0, abs=1e-3)
    assert np.abs(found - stats.norm.pdf(x)).max() < 0.02


def test_a_collapsed_generator_is_one_bar_and_lost_samples_are_missed():
    x = np.linspace(-1, 1, 201)
    found = density(np.full(1000, 0.5), x)
    assert x[found.argmax()] == pytest.approx(0.5)
    assert integrate.trapezoid(found, x) == pytest.approx(1.0, abs=1e-3)
    half = np.concatenate([np.zeros(500), np.full(500, np.nan)])
    assert integrate.trapezoid(density(half, x), x) == pytest.approx(0.5, abs=1e-3)
    assert not density(np.array([np.inf, np.nan]), x).any()


def test_the_optimum_and_where_it_counts():
    data, generated = np.array([0.3, 0.1, 0.0, 0.001]), np.array([0.1, 0.1, 0.0, 0.0])
    line = Line(np.arange(4.0), data, generated, None)
    assert np.allclose(line.optimum[:2], [0.75, 0.5])
    assert np.isnan(line.optimum[2])
    assert line.visited().tolist() == [True, True, False, False]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The preset in a quarter of its time."""
    steps = {"train.steps": 500, "log.preview_every": 200, "log.every": 200}
    for player, start, end in (("discriminator", 1000, 2500), ("generator", 150, 350)):
        steps |= {f"optim.{player}.schedule.start": start, f"optim.{player}.schedule.end": end}
    out = tmp_path_factory.mktemp("line") / "run"
    fit(load_config("gan-1d", steps), None, out, device="cpu")
    return out


def test_the_discriminator_is_near_its_optimum(trained):
    """p_data / (p_data + p_g), within 0.1 wherever either density is not tiny."""
    run = open_run(trained, "cpu")
    line = look_along(run.model, open_dataset("toy:gaussian1d"), RandomStream(0, "line"))
    assert line.decision is not None
    seen = line.visited()
    assert np.allclose(line.data, stats.norm.pdf(line.x, 4, 0.5))
    assert np.abs(line.decision - line.optimum)[seen].max() < 0.1
    overlap = integrate.trapezoid(np.minimum(line.data, line.generated), line.x)
    assert overlap > 0.5, "the generator found the data"


def test_frames_and_film(trained):
    names = sorted(p.name for p in (trained / "samples").glob("*.png"))
    assert names == [f"step-{step:08d}.png" for step in (200, 400, 500)]
    with Image.open(trained / "samples/training.gif") as film:
        assert film.n_frames == 3
        assert film.size == Image.open(trained / "samples" / names[0]).size
    first, last = (np.asarray(Image.open(trained / "samples" / n)).astype(int) for n in names[::2])
    assert (np.abs(first - last).max(-1) > 50).sum() > 100, "something moved"


def test_a_conditional_model_is_asked_without_a_label(tmp_path):
    points = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    np.savez(tmp_path / "line.npz", points=points, labels=np.arange(40) % 2)
    changes = {"data__spec": str(tmp_path / "line.npz"), "log__preview_every": 2}
    fit(small("gan-1d", model__conditional=True, **changes), None, tmp_path / "run", device="cpu")
    assert (tmp_path / "run/samples/step-00000002.png").is_file()


def test_a_model_without_logits_has_no_decision():
    class Both(torch.nn.Module):
        def sample(self, n, rng, condition=None):
            return rng.normal(n, 1)

    found = look_along(Both(), open_dataset("toy:mixture1d"), RandomStream(0, "x"))
    assert found.decision is None
    assert integrate.trapezoid(found.generated, found.x) == pytest.approx(1.0, abs=0.02)
