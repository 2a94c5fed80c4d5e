"""Toy densities: points drawn afresh for every batch, with their exact log-density where known.

``toy:ring`` and ``toy:grid`` are the mode-counting benchmarks (Metz et al. 2017, arXiv:1611.02163;
Srivastava et al. 2017, arXiv:1705.07761). The ring's angles are ``2π·arange(8)/8``; the often
copied ``linspace(0, 2π, 8)`` makes two of the eight modes coincide. Log-densities are
float64, in nats.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from genctl.errors import UsageError
from genctl.randomness import RandomStream
from genctl.registry import suggest

MIN_STD = 0.001
"""Narrower noise would need more quadrature nodes than are worth having."""


@runtime_checkable
class Toy(Protocol):
    """A density to draw from.

    Attributes:
        name: as in ``toy:NAME``.
        dimensions: D of a point.
        settings: every option with its value, for the protocol.
    """

    name: str
    dimensions: int
    settings: dict[str, float]

    def draw(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, D)`` float32 points; row i depends only on the stream's row i."""

    def log_prob(self, x: Tensor) -> Tensor:
        """``(N, D)`` → ``(N,)`` float64 log-density."""

    def entropy(self) -> float:
        """Differential entropy in nats: the best average −log p any model can reach."""


class Mixture:
    """Equally weighted isotropic Gaussians around ``modes``.

    Attributes:
        modes: ``(K, D)`` float64 centres.
        std: the standard deviation on every axis.
    """

    def __init__(self, name: str, modes: Tensor, std: float, settings: dict[str, float]) -> None:
        self.name, self.modes, self.std, self.settings = name, modes, std, settings
        self.dimensions = modes.shape[1]

    @property
    def unit(self) -> float:
        """What distances to a mode are measured in: the standard deviation on an axis."""
        return self.std

    def draw(self, n: int, rng: RandomStream) -> Tensor:
        """A mode at random, then Gaussian noise."""
        mode = rng.integers(n, high=len(self.modes)).cpu()
        noise = rng.normal(n, self.dimensions).cpu()
        return self.modes[mode].to(torch.float32) + self.std * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact."""
        distance = _squared_distance(x.detach().cpu().double(), self.modes) / self.std**2
        constant = self.dimensions * math.log(self.std * math.sqrt(2 * math.pi))
        return torch.logsumexp(-0.5 * distance, 1) - constant - math.log(len(self.modes))

    def entropy(self) -> float:
        """Exact for one mode; otherwise the mean of 200,000 draws (standard error ≤ 0.003)."""
        if len(self.modes) == 1:
            return self.dimensions * (0.5 + math.log(self.std * math.sqrt(2 * math.pi)))
        return -float(self.log_prob(self.draw(200_000, RandomStream(0, "entropy"))).mean())


class Embedded(Mixture):
    """A mixture whose centres lie in a subspace of a space of many dimensions.

    Densities are computed inside the subspace and outside of it apart, which is exact, and cheap
    where the subspace is small.

    Args:
        name: as in ``toy:NAME``.
        inner: the mixture in the subspace, ``(K, d)`` centres.
        frame: ``(D, d)`` float64, orthonormal columns: what spans the subspace.
        settings: the options with their values.
    """

    def __init__(
        self, name: str, inner: Mixture, frame: Tensor, settings: dict[str, float]
    ) -> None:
        super().__init__(name, inner.modes @ frame.T, inner.std, settings)
        self.inner, self.frame = inner, frame

    @property
    def unit(self) -> float:
        """Where axes are many, the usual distance of a draw from its mode: √D deviations."""
        return self.std * math.sqrt(self.dimensions)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact."""
        x = x.detach().cpu().double()
        inside = x @ self.frame
        outside = (x - inside @ self.frame.T).square().sum(1) / self.std**2
        constant = self._outside * math.log(self.std * math.sqrt(2 * math.pi))
        return self.inner.log_prob(inside) - 0.5 * outside - constant

    def entropy(self) -> float:
        """As the inner mixture's, and exact outside."""
        alone = 0.5 + math.log(self.std * math.sqrt(2 * math.pi))
        return self.inner.entropy() + self._outside * alone

    @property
    def _outside(self) -> int:
        return self.frame.shape[0] - self.frame.shape[1]


class Curve:
    """Equally weighted plane curves, uniform in their parameter, blurred by Gaussian noise.

    Args:
        name: as in ``toy:NAME``.
        curves: each maps ``t`` in [0, 1] to ``(…, 2)``.
        std: the noise on every axis.
        settings: the options with their values.
    """

    dimensions = 2

    def __init__(
        self,
        name: str,
        curves: tuple[Callable[[Tensor], Tensor], ...],
        std: float,
        settings: dict[str, float],
    ) -> None:
        self.name, self.curves, self.std, self.settings = name, curves, std, settings
        # The density is an integral over t. Gauss-Legendre nodes are dense enough when neighbours
        # are nearer than the noise is wide; three nodes for each width leave an error below 1e-8.
        length = max(
            float((c(torch.linspace(0, 1, 2000).double()).diff(dim=0)).norm(dim=1).sum())
            for c in curves
        )
        count = min(60_000, max(200, int(3 * length / std)))
        nodes, weights = np.polynomial.legendre.leggauss(count)
        t = torch.from_numpy((nodes + 1) / 2)
        self._nodes = torch.cat([curve(t) for curve in curves])
        each = torch.from_numpy(weights / 2).log() - math.log(len(curves))
        self._log_weights = each.repeat(len(curves))

    def draw(self, n: int, rng: RandomStream) -> Tensor:
        """A curve and a place on it at random, then Gaussian noise."""
        which = rng.integers(n, high=len(self.curves)).cpu()
        t = rng.uniform(n).cpu().double()
        points = torch.stack([curve(t) for curve in self.curves])[which, torch.arange(n)]
        return (points + self.std * rng.normal(n, 2).cpu()).to(torch.float32)

    def log_prob(self, x: Tensor) -> Tensor:
        """By Gauss-Legendre quadrature over the curves."""
        constant = 2 * math.log(self.std * math.sqrt(2 * math.pi))
        parts = []
        for some in x.detach().cpu().double().split(4096):
            distance = _squared_distance(some, self._nodes) / self.std**2
            parts.append(torch.logsumexp(self._log_weights - 0.5 * distance, 1) - constant)
        return torch.cat(parts)

    def entropy(self) -> float:
        """Numeric: −∫ p log p over a grid that holds all but a negligible part of the mass."""
        low = self._nodes.amin(0) - 6 * self.std
        high = self._nodes.amax(0) + 6 * self.std
        steps = [
            min(1200, int(4 * float(b - a) / self.std) + 1) for a, b in zip(low, high, strict=True)
        ]
        axes = [
            torch.linspace(float(a), float(b), s).double()
            for a, b, s in zip(low, high, steps, strict=True)
        ]
        cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
        log_p = self.log_prob(torch.cartesian_prod(*axes))
        return -float((log_p.exp() * log_p).sum()) * cell


class Checkerboard:
    """Uniform on the dark squares of a board over [−4, 4]²."""

    name, dimensions = "checkerboard", 2

    def __init__(self, squares: int, settings: dict[str, float]) -> None:
        self.squares, self.settings, self._edge = squares, settings, 8.0 / squares
        dark = [(i, j) for i in range(squares) for j in range(squares) if (i + j) % 2 == 0]
        self._corners = torch.tensor(dark, dtype=torch.float64) * self._edge - 4.0

    def draw(self, n: int, rng: RandomStream) -> Tensor:
        """A dark square at random, then a uniform point in it."""
        corner = self._corners[rng.integers(n, high=len(self._corners)).cpu()]
        return (corner + self._edge * rng.uniform(n, 2).cpu()).to(torch.float32)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact: a constant on the dark squares, −∞ elsewhere."""
        x = x.detach().cpu().double()
        cell = ((x + 4.0) / self._edge).floor().long()
        inside = ((cell >= 0) & (cell < self.squares)).all(1) & (cell.sum(1) % 2 == 0)
        return torch.where(inside, -self.entropy(), -math.inf).double()

    def entropy(self) -> float:
        """Exact: the log of the dark area."""
        return math.log(len(self._corners) * self._edge**2)


def ring(*, modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Mixture:
    """Gaussians on a circle, the first at angle 0."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    centres = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return Mixture("ring", centres, std, {"modes": modes, "radius": radius, "std": std})


def grid(*, side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Mixture:
    """Gaussians on a square grid centred at the origin; 5 × 5 at {−4, −2, 0, 2, 4}²."""
    axis = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
    return Mixture(
        "grid",
        torch.cartesian_prod(axis, axis),
        std,
        {"side": side, "spacing": spacing, "std": std},
    )


def gaussian1d(*, mean: float = 4.0, std: float = 0.5) -> Mixture:
    """One Gaussian on the line, for the one-dimensional example."""
    centre = torch.tensor([[mean]], dtype=torch.float64)
    return Mixture("gaussian1d", centre, std, {"mean": mean, "std": std})


def mixture1d(*, modes: int = 2, spacing: float = 4.0, std: float = 0.5) -> Mixture:
    """Equal Gaussians on the line, centred at the origin."""
    centres = (torch.arange(modes, dtype=torch.float64)[:, None] - (modes - 1) / 2) * spacing
    return Mixture("mixture1d", centres, std, {"modes": modes, "spacing": spacing, "std": std})


def modes(
    *, modes: int = 16, manifold: int = 2, dimensions: int = 512, std: float = 0.05
) -> Embedded:
    """Gaussians far apart on a manifold of few dimensions, for the mode-collapse laboratory.

    The centres are spread over a cube of ``manifold`` dimensions, each as far as it can be from
    those before it, then moved and scaled so that their mean is 0 and their mean square 1 an axis
    of the whole space. The first cosines of the discrete cosine transform span the manifold.
    """
    if manifold > dimensions:
        reason = f"a manifold of {manifold} dimensions does not fit into {dimensions}"
        raise UsageError("toy:modes", reason, "lower manifold=")
    centres = _far_apart(modes, manifold)
    centres = centres - centres.mean(0) if modes > 1 else centres
    centres = centres * math.sqrt(dimensions) / centres.square().sum(1).mean().sqrt()
    place = torch.arange(dimensions, dtype=torch.float64)[:, None] + 0.5
    wave = torch.arange(1, manifold + 1, dtype=torch.float64)
    frame = (math.pi / dimensions * place * wave).cos() * math.sqrt(2 / dimensions)
    if manifold == dimensions:  # the last cosine is the transform's constant
        frame[:, -1] = 1 / math.sqrt(dimensions)
    settings = {"modes": modes, "manifold": manifold, "dimensions": dimensions, "std": std}
    return Embedded("modes", Mixture("modes", centres, std, {}), frame, settings)


def _far_apart(n: int, dimensions: int) -> Tensor:
    """``(n, d)`` float64 points of [−1, 1]^d: of many, the farthest from those before it."""
    pool = RandomStream(0, "toy", "modes", dimensions).uniform(16 * n, dimensions)
    pool = 2.0 * pool.double() - 1.0
    chosen = [0]
    nearest = _squared_distance(pool, pool[:1])[:, 0]
    while len(chosen) < n:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, _squared_distance(pool, pool[chosen[-1:]])[:, 0])
    return pool[chosen]


def moons(*, std: float = 0.1) -> Curve:
    """Two interleaved half circles of radius 1, as scikit-learn's ``make_moons`` places them."""

    def outer(t: Tensor) -> Tensor:
        return torch.stack([(math.pi * t).cos(), (math.pi * t).sin()], -1)

    def inner(t: Tensor) -> Tensor:
        return torch.stack([1 - (math.pi * t).cos(), 0.5 - (math.pi * t).sin()], -1)

    return Curve("moons", (outer, inner), std, {"std": std})


def circles(*, factor: float = 0.5, std: float = 0.05) -> Curve:
    """Two concentric circles of radius 1 and ``factor``."""

    def circle(radius: float) -> Callable[[Tensor], Tensor]:
        return lambda t: (
            radius * torch.stack([(2 * math.pi * t).cos(), (2 * math.pi * t).sin()], -1)
        )

    return Curve("circles", (circle(1.0), circle(factor)), std, {"factor": factor, "std": std})


def spirals(*, arms: int = 2, turns: float = 1.5, std: float = 0.1) -> Curve:
    """Archimedean arms from radius 0.3 to radius 3."""

    def arm(start: float) -> Callable[[Tensor], Tensor]:
        def curve(t: Tensor) -> Tensor:
            angle, radius = 2 * math.pi * (turns * t + start), 0.3 + 2.7 * t
            return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)

        return curve

    settings = {"arms": arms, "turns": turns, "std": std}
    return Curve("spirals", tuple(arm(k / arms) for k in range(arms)), std, settings)


def checkerboard(*, squares: int = 4) -> Checkerboard:
    """Uniform on the dark squares of a ``squares`` × ``squares`` board."""
    return Checkerboard(squares, {"squares": squares})


TOYS: dict[str, Callable[..., Toy]] = {
    "ring": ring,
    "grid": grid,
    "moons": moons,
    "circles": circles,
    "spirals": spirals,
    "checkerboard": checkerboard,
    "gaussian1d": gaussian1d,
    "mixture1d": mixture1d,
    "modes": modes,
}


def make_toy(name: str, options: Mapping[str, float]) -> Toy:
    """Build a toy from a SPEC's name and options.

    Raises:
        UsageError: unknown toy or option, or a value out of range.
    """
    thing = f"toy:{name}"
    if name not in TOYS:
        names = [*TOYS, "triangles"]  # those are pictures, see triangles.py
        raise UsageError(thing, f"unknown toy{suggest(name, names)}", "e.g. toy:ring")
    known = inspect.signature(TOYS[name]).parameters
    values: dict[str, float] = {}
    for key, value in options.items():
        if key not in known:
            raise UsageError(thing, f"unknown option {key!r}{suggest(key, list(known))}", "")
        whole = isinstance(known[key].default, int)
        positive = key not in ("mean", "turns")
        if (positive and value <= 0) or (whole and (value != int(value) or value > 1000)):
            wanted = "a whole number from 1 to 1000" if whole else "a number above 0"
            raise UsageError(thing, f"option {key!r} needs {wanted}, found {value:g}", "")
        values[key] = int(value) if whole else value
    if values.get("std", 1.0) < MIN_STD:
        raise UsageError(thing, f"option 'std' needs a number above {MIN_STD:g}", "")
    return TOYS[name](**values)


def _squared_distance(x: Tensor, centres: Tensor) -> Tensor:
    """``(N, D)``, ``(K, D)`` → ``(N, K)``, by differences: exact where points nearly coincide."""
    total = torch.zeros(len(x), len(centres), dtype=x.dtype)
    for axis in range(x.shape[1]):
        total += (x[:, axis, None] - centres[None, :, axis]).square_()
    return total
