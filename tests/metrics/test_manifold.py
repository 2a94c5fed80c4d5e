"""Distances to triangles and of a generator's inverse, against what was planted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genctl.data.dataset import open_dataset
from genctl.data.ranges import from_unit
from genctl.data.triangles import DARKEST, Triangles, render
from genctl.latent.projection import nearest_of, project
from genctl.metrics.manifold import summary
from genctl.metrics.measure import UndefinedError
from genctl.metrics.nearest_triangle import _residual, distance_to_triangles
from genctl.randomness import RandomStream
from genctl.report.known_manifold import distances

MANIFOLD = Triangles()


def drawn(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    vertices, grey = MANIFOLD.draw(n, RandomStream(seed, "test"))
    return vertices, grey, render(vertices, grey, MANIFOLD.size)[:, None]


# --- to the manifold -----------------------------------------------------------------------------
def test_the_slope_is_that_of_autograd() -> None:
    vertices, grey, _ = drawn(4)
    parameters = torch.cat([vertices.flatten(1), grey[:, None]], 1).double()
    nothing = torch.zeros(1, 784, dtype=torch.float64)
    for row in parameters:
        slope = torch.func.jacfwd(
            lambda p: (p[6] * render(p[:6].view(1, 3, 2), p.new_ones(1), 28)).flatten()
        )(row)
        assert torch.allclose(_residual(row[None], nothing, 28)[1][0], slope, atol=1e-12)


def test_every_triangle_is_found_and_as_bytes_too() -> None:
    _, _, pictures = drawn(24)
    assert distance_to_triangles(pictures, MANIFOLD).max() < 1e-3
    # 784 pixels, of which the edge and the grey are rounded by at most 1/510.
    rounded = (pictures * 255).round() / 255
    assert distance_to_triangles(rounded, MANIFOLD).max() < 28 / 510


def test_a_picture_that_was_moved_away_is_as_far_as_it_was_moved() -> None:
    vertices, grey, pictures = drawn(12)
    parameters = torch.cat([vertices.flatten(1), grey[:, None]], 1)
    flat = pictures.flatten(1)
    slope = _residual(parameters, flat, 28)[1]
    noise = RandomStream(0, "away").normal(len(flat), 784)
    # Straight away from the manifold: at right angles to all that the parameters can do.
    inside = slope @ torch.linalg.lstsq(slope, noise[:, :, None]).solution
    away = noise - inside[:, :, 0]
    for far in (0.3, 1.5):
        moved = flat + far * away / away.norm(dim=1, keepdim=True)
        found = distance_to_triangles(moved.view(-1, 1, 28, 28), MANIFOLD)
        assert (found <= far * 1.001).all()  # it cannot be farther than where it came from
        assert found == pytest.approx(np.full(len(found), far), rel=0.1)


def test_black_is_as_far_as_the_smallest_darkest_triangle() -> None:
    black = distance_to_triangles(torch.zeros(1, 1, 28, 28), MANIFOLD)
    # Were its pixels whole or empty, that triangle would have this length; soft edges take away.
    most = DARKEST * MANIFOLD.least**0.5
    assert 0.85 * most < float(black) < most


def test_what_is_no_triangle_is_far_away() -> None:
    square = torch.zeros(1, 1, 28, 28)
    square[..., 8:20, 8:20] = 1.0
    noise = RandomStream(0, "noise").uniform(1, 1, 28, 28)
    assert (distance_to_triangles(torch.cat([square, noise]), MANIFOLD) > 3).all()


# --- the inverse ---------------------------------------------------------------------------------
def test_a_linear_generator_is_inverted_as_least_squares_does() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 10, generator=generator)
    targets, starts = torch.randn(5, 10, generator=generator), torch.zeros(5, 2, 3)
    z, distance = project(lambda z: z @ matrix, targets, starts, steps=400, rate=0.1)
    expected = torch.linalg.lstsq(matrix.T, targets.T).solution.T
    assert torch.allclose(z, expected, atol=1e-3)
    assert torch.allclose(distance, (targets - expected @ matrix).norm(dim=1), atol=1e-4)


def test_the_best_start_wins_and_what_has_no_gradient_is_refused() -> None:
    def well(z: torch.Tensor) -> torch.Tensor:
        return z.where(z > 0, torch.zeros_like(z))  # below 0 nothing pulls

    starts = torch.tensor([[[-1.0], [0.5]], [[0.4], [-2.0]]])
    z, distance = project(well, torch.tensor([[2.0], [1.0]]), starts, steps=300, rate=0.1)
    assert torch.allclose(z, torch.tensor([[2.0], [1.0]]), atol=1e-2)
    assert (distance < 1e-2).all()
    with pytest.raises(ValueError, match="no gradient"):
        project(lambda z: z.round().detach(), torch.ones(1, 1), torch.ones(1, 1, 1))


def test_the_nearest_come_first() -> None:
    rows = nearest_of(torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([[0.9], [6.0]]), 2)
    assert rows.tolist() == [[2, 0], [1, 2]]


# --- both, of a planted generator ----------------------------------------------------------------
class BrightTriangles(torch.nn.Module):
    """Makes every triangle of the manifold, but only in the greys from 0.9 up."""

    def sample_latent(self, n: int, rng: RandomStream) -> torch.Tensor:
        return rng.normal(n, 7)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        place = torch.special.ndtr(z)
        made = render(place[:, :6].view(-1, 3, 2) * 28, 0.9 + 0.1 * place[:, 6], 28)
        return from_unit(made)[:, None]


def test_precision_and_recall_of_a_generator_of_known_ones() -> None:
    _, _, pictures = drawn(20)
    noise = RandomStream(0, "noise").uniform(12, 1, 28, 28)
    samples = (torch.cat([pictures, noise]) * 255).round().to(torch.uint8)
    vertices, _, _ = drawn(8, seed=2)
    grey = torch.tensor([0.3, 0.95]).repeat(4)  # of the dark half nothing near can be made
    targets = (render(vertices, grey, 28) * 255).round().to(torch.uint8)[:, None]
    test = open_dataset("toy:triangles?examples=4")
    object.__setattr__(test, "examples", targets)
    run = SimpleNamespace(
        model=BrightTriangles(),
        device=torch.device("cpu"),
        stream=lambda seed, name: RandomStream(seed, name),
    )
    generated = SimpleNamespace(batches=lambda size: iter(samples.split(size)))
    found, reason = distances(generated, test, run, n=100, seed=0, batch_size=10)
    assert reason == ""
    entry = summary(found.to_manifold, found.of_inverse, 0.75)
    assert entry["precision"] == 20 / 32
    assert entry["recall"] == 4 / 8
    assert entry["f1"] == pytest.approx(2 * 0.625 * 0.5 / 1.125)
    assert (entry["n_generated"], entry["n_test"]) == (32, 8)
    assert found.protocol["manifold"]["name"] == "triangles"


def test_without_a_generator_there_is_no_recall() -> None:
    test = open_dataset("toy:triangles?examples=8")
    generated = SimpleNamespace(batches=lambda size: iter([test.examples]))
    found, reason = distances(generated, test, None, n=4, seed=0, batch_size=10)
    entry = summary(found.to_manifold, found.of_inverse, 0.75)
    assert "no generator" in reason
    assert entry["precision"] == 1.0
    assert entry["recall"] is entry["f1"] is None
    assert entry["n_generated"] == 4


def test_the_shares_are_of_what_is_within_delta() -> None:
    near, far = np.array([0.1, 0.75, 0.8, np.inf]), np.array([0.5, 2.0])
    entry = summary(near, far, 0.75)
    assert (entry["precision"], entry["recall"]) == (0.5, 0.5)
    assert entry["precision_error"] == pytest.approx(0.25)
    assert entry["median_to_manifold"] == 0.75
    assert summary(near, far, 0.01)["f1"] == 0.0
    with pytest.raises(UndefinedError):
        summary(np.empty(0), far, 0.75)
