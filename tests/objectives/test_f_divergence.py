"""A12: seven divergences and JS_π as games, by quadrature in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from genctl.objectives.f_divergence import DIVERGENCES, FDivergence

LINE = torch.linspace(-14, 14, 40_001, dtype=torch.float64)
CELL = float(LINE[1] - LINE[0])
SHARE = 0.3


def normal(mean, scale, x=LINE):
    return torch.exp(-0.5 * ((x - mean) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))


def mixture(x=LINE):
    return 0.5 * normal(-1.0, 0.5, x) + 0.5 * normal(1.0, 0.5, x)


# f(u) of table 1, and the score v at which T(v) = f'(u).
FORMS = {
    "kl": (lambda u: u * u.log(), lambda u: 1 + u.log()),
    "reverse-kl": (lambda u: -u.log(), lambda u: u.log()),
    "pearson": (lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1)),
    "hellinger": (lambda u: (u.sqrt() - 1) ** 2, lambda u: 0.5 * u.log()),
    "js": (lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(), lambda u: u.log()),
    "gan": (lambda u: u * u.log() - (u + 1) * (u + 1).log(), lambda u: u.log()),
    "tv": (lambda u: 0.5 * (u - 1).abs(), lambda u: 40 * (u - 1).sign()),
    "weighted-js": (
        lambda u: SHARE * u * u.log() - (1 - SHARE + SHARE * u) * (1 - SHARE + SHARE * u).log(),
        lambda u: torch.logit((SHARE * u / (1 - SHARE + SHARE * u)) ** SHARE),
    ),
}


def game(name, **keywords):
    return FDivergence(divergence=name, share=SHARE, **keywords)


def divergence(name, p, q):
    return float((q * FORMS[name][0](p / q)).sum() * CELL)


def bound(name, p, q, v):
    """E_P T − E_Q f*(T): what the discriminator's loss is the negative of."""
    objective = game(name)
    return float(-(p * objective.real(v) + q * objective.fake(v)).sum() * CELL)


def test_all_of_them_are_here():
    assert set(FORMS) == {*DIVERGENCES, "weighted-js"}
    assert len(DIVERGENCES) == 7


@pytest.mark.parametrize("name", FORMS)
def test_the_bound_is_tight_at_the_best_score_and_nowhere_else(name):
    p, q = normal(0.0, 1.0), normal(0.5, 1.3)
    value, best = divergence(name, p, q), FORMS[name][1](p / q)
    assert bound(name, p, q, best) == pytest.approx(value, abs=1e-6)
    for other in (best + 0.1, best * 0.9, torch.zeros_like(best)):
        assert bound(name, p, q, other) < value + 1e-9
    assert bound(name, p, q, 0.5 * best) < value - 1e-4 or name == "tv"


def test_the_usual_names_of_two():
    """Table 1: ``js`` is twice Jensen–Shannon's, ``gan`` that less log 4."""
    p, q = normal(0.0, 1.0), normal(0.5, 1.3)
    m = (p + q) / 2
    shannon = 0.5 * float((p * (p / m).log() + q * (q / m).log()).sum() * CELL)
    assert divergence("js", p, q) == pytest.approx(2 * shannon, rel=1e-9)
    assert divergence("gan", p, q) == pytest.approx(2 * shannon - math.log(4), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "conjugate", "scores"),
    [
        ("kl", lambda t: (t - 1).exp(), (-3, 3)),
        ("reverse-kl", lambda t: -1 - (-t).log(), (-3, 3)),
        ("pearson", lambda t: t**2 / 4 + t, (-3, 3)),
        ("hellinger", lambda t: t / (1 - t), (-3, 3)),
        ("js", lambda t: -(2 - t.exp()).log(), (-5, 5)),
        ("gan", lambda t: -(1 - t.exp()).log(), (-5, 5)),
        ("tv", lambda t: t, (-5, 5)),
        (
            "weighted-js",
            lambda t: (1 - SHARE) * ((1 - SHARE) / (1 - SHARE * (t / SHARE).exp())).log(),
            (-5, 5),
        ),
    ],
)
def test_written_out_in_the_score_it_is_table_2(name, conjugate, scores):
    v = torch.linspace(*scores, 101, dtype=torch.float64)
    objective = game(name)
    assert torch.allclose(objective.fake(v), conjugate(-objective.real(v)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_scores_of_any_size_stay_finite_where_the_divergence_is(name):
    grows = {"kl": (-50, 50), "reverse-kl": (-50, 80), "hellinger": (-50, 50)}
    v = torch.linspace(*grows.get(name, (-1000, 1000)), 4001, requires_grad=True)
    objective = game(name)
    for loss in (objective.real, objective.fake, objective.generator):
        (slope,) = torch.autograd.grad(loss(v).sum(), v)
        assert torch.isfinite(loss(v)).all()
        assert torch.isfinite(slope).all()


def fitted_slope(name, mean, scale):
    """∇ over (μ, σ) of the generator's loss at the best discriminator, held fixed."""
    z = LINE[LINE.abs() < 7]  # the mixture's tails are above float64's smallest number there
    weight = normal(0.0, 1.0, z) * CELL
    parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (mean, scale)]
    x = parameters[0] + parameters[1] * z
    loss = (
        weight * game(name).generator(FORMS[name][1](mixture(x) / normal(mean, scale, x)))
    ).sum()
    return [float(g) for g in torch.autograd.grad(loss, parameters)]


@pytest.mark.parametrize("name", [name for name in FORMS if name != "tv"])
def test_a_generator_follows_its_divergence_to_the_numeric_minimiser(name):
    """Total variation's best discriminator is a step, which shows a generator no slope."""

    def distance(parameters):
        return divergence(name, mixture().clamp_min(1e-300), normal(*parameters).clamp_min(1e-300))

    for start in ((0.3, 1.3), (-0.4, 1.6)):
        numeric = optimize.approx_fprime(np.array(start), distance, 1e-6)
        assert fitted_slope(name, *start) == pytest.approx(numeric.tolist(), rel=2e-3, abs=2e-4)
    bounds = [(-1.0, 1.0), (0.9, 2.0)]
    best = optimize.minimize(distance, (0.3, 1.3), bounds=bounds, method="L-BFGS-B").x
    inside = 0.91 < best[1] < 1.99
    slope = fitted_slope(name, *best.tolist())
    assert abs(slope[0]) < 2e-3
    assert abs(slope[1]) < 2e-3 or not inside


def test_the_heuristic_generator_is_alive_where_the_bound_is_flat():
    v = torch.tensor([-20.0], requires_grad=True)
    slopes = [
        float(torch.autograd.grad(game("gan", generator=how).generator(v).sum(), v)[0])
        for how in ("bound", "heuristic")
    ]
    assert -1e-8 < slopes[0] < 0
    assert slopes[1] == pytest.approx(-1.0, abs=1e-6)
