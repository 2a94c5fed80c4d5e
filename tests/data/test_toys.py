import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from genctl.data.dataset import open_dataset
from genctl.data.toys import TOYS, make_toy
from genctl.errors import UsageError
from genctl.randomness import RandomStream


def draws(toy, n=20_000, seed=1):
    return toy.draw(n, RandomStream(seed, "test"))


def test_ring_has_eight_distinct_modes_the_first_at_angle_zero():
    toy = make_toy("ring", {})
    angles = torch.atan2(toy.modes[:, 1], toy.modes[:, 0]) % (2 * math.pi)
    assert torch.allclose(angles, torch.arange(8).double() * math.pi / 4, atol=1e-12)
    assert torch.allclose(toy.modes.norm(dim=1), torch.full((8,), 2.0).double())
    assert toy.std == 0.02


def test_grid_is_five_by_five_from_minus_four_to_four():
    toy = make_toy("grid", {})
    wanted = {(float(a), float(b)) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)}
    assert {tuple(mode) for mode in toy.modes.tolist()} == wanted
    assert toy.std == 0.05


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_the_share_of_true_samples_within_three_sigma_is_the_rayleigh_value(name):
    toy = make_toy(name, {})
    x = draws(toy).double()
    distance, mode = torch.cdist(x, toy.modes).min(1)
    share = float((distance <= 3 * toy.std).double().mean())
    assert share == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    counts = torch.bincount(mode, minlength=len(toy.modes)).double()
    expected = 20_000 / len(toy.modes)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_options_change_the_toy_and_are_reported():
    dataset = open_dataset("toy:ring?radius=1&std=0.01&modes=7")
    assert dataset.toy.settings == {"modes": 7, "radius": 1.0, "std": 0.01}
    assert len(dataset.toy.modes) == 7
    assert "radius 1" in dataset.source
    assert dataset.spec.shape == (2,)
    assert dataset.spec.levels == 0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("toy:rign", "ring"),
        ("toy:ring?radios=2", "radius"),
        ("toy:ring?std=-1", "above 0"),
        ("toy:ring?modes=2.5", "whole number"),
        ("toy:ring?modes=1000000", "whole number"),
        ("toy:ring?std=nan", "number"),
        ("toy:ring?std", "number"),
        ("toy:", "toy:ring"),
        ("toy:moons?std=0.0000001", "above 0.001"),
    ],
)
def test_a_mistake_is_named(spec, says):
    with pytest.raises(UsageError) as caught:
        open_dataset(spec)
    assert says in f"{caught.value.reason} {caught.value.remedy}"


def test_gaussian1d_against_scipy():
    toy = make_toy("gaussian1d", {"mean": 1.0, "std": 2.0})
    x = torch.linspace(-5, 7, 13)[:, None]
    assert np.allclose(toy.log_prob(x).numpy(), stats.norm(1, 2).logpdf(x[:, 0].double().numpy()))
    assert toy.entropy() == pytest.approx(stats.norm(1, 2).entropy())


def test_mixture_log_prob_integrates_to_one():
    toy = make_toy("mixture1d", {"modes": 3, "spacing": 2.0})
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    p = toy.log_prob(x[:, None]).exp().numpy()
    assert integrate.trapezoid(p, x.numpy()) == pytest.approx(1.0, abs=1e-6)
    inner = float(-integrate.trapezoid(p * np.log(p), x.numpy()))
    assert toy.entropy() == pytest.approx(inner, abs=0.01)


@pytest.mark.parametrize("name", ["moons", "circles", "checkerboard"])
def test_plane_densities_integrate_to_one(name):
    toy = make_toy(name, {"std": 0.15} if name != "checkerboard" else {})
    axis = torch.linspace(-4.98, 4.98, 250, dtype=torch.float64)
    log_p = toy.log_prob(torch.cartesian_prod(axis, axis))
    assert float(log_p.exp().sum()) * 0.04**2 == pytest.approx(1.0, abs=1e-6)


def test_moons_density_is_the_integral_over_the_arcs():
    toy = make_toy("moons", {"std": 0.2})
    point = np.array([0.7, 0.4])

    def along(t):
        outer = np.array([math.cos(t), math.sin(t)])
        inner = np.array([1 - math.cos(t), 0.5 - math.sin(t)])
        blur = [
            math.exp(-((point - c) ** 2).sum() / (2 * 0.04)) / (2 * math.pi * 0.04)
            for c in (outer, inner)
        ]
        return sum(blur) / 2 / math.pi

    exact, _ = integrate.quad(along, 0, math.pi)
    found = toy.log_prob(torch.from_numpy(point)[None])
    assert float(found[0]) == pytest.approx(math.log(exact), abs=1e-8)


@pytest.mark.parametrize("name", sorted(TOYS))
def test_mean_log_prob_of_draws_is_minus_the_entropy(name):
    # The draws and the density are written independently; this holds them to each other.
    toy = make_toy(name, {})
    log_p = toy.log_prob(draws(toy, 4000))
    error = 5 * float(log_p.std()) / 4000**0.5 + 0.005
    assert -float(log_p.mean()) == pytest.approx(toy.entropy(), abs=error)


@pytest.mark.parametrize("name", sorted(TOYS))
def test_rows_do_not_depend_on_the_batch(name):
    toy = make_toy(name, {})
    whole = toy.draw(100, RandomStream(3, "a"))
    assert whole.dtype == torch.float32
    assert torch.equal(toy.draw(7, RandomStream(3, "a")), whole[:7])
    assert torch.equal(toy.draw(30, RandomStream(3, "a", first_row=70)), whole[70:])


def test_modes_lie_on_a_manifold_far_apart():
    toy = make_toy("modes", {"modes": 32, "manifold": 3, "dimensions": 64})
    assert toy.modes.shape == (32, 64)
    assert int(torch.linalg.matrix_rank(toy.modes)) == 3
    assert torch.allclose(toy.modes.mean(0), torch.zeros(64).double(), atol=1e-12)
    assert float(toy.modes.square().mean()) == pytest.approx(1.0)
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(toy.frame.T @ toy.frame, eye, atol=1e-12)
    apart = torch.pdist(toy.modes)
    assert float(apart.min()) > 6 * toy.unit, "no sample is near two modes"


@pytest.mark.parametrize("manifold", [1, 5, 8])
def test_modes_density_is_that_of_the_plain_mixture(manifold):
    toy = make_toy("modes", {"modes": 4, "manifold": manifold, "dimensions": 8, "std": 0.3})
    x = draws(toy, 200)
    centres = [stats.multivariate_normal(c.numpy(), 0.09 * np.eye(8)) for c in toy.modes]
    exact = np.log(np.mean([c.pdf(x.double().numpy()) for c in centres], axis=0))
    assert np.allclose(toy.log_prob(x).numpy(), exact, atol=1e-8)
    eye = torch.eye(manifold, dtype=torch.float64)
    assert torch.allclose(toy.frame.T @ toy.frame, eye, atol=1e-12)


def test_a_draw_of_many_dimensions_is_about_one_unit_from_its_mode():
    toy = make_toy("modes", {})
    distance = torch.cdist(draws(toy, 500).double(), toy.modes).min(1).values / toy.unit
    assert float(distance.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(distance.max()) < 1.2


def test_a_manifold_larger_than_its_space():
    with pytest.raises(UsageError) as caught:
        make_toy("modes", {"manifold": 9, "dimensions": 8})
    assert "does not fit" in caught.value.reason
