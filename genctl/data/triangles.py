"""``toy:triangles``: grey triangles on black, pictures whose manifold is known.

Lucic et al. 2018 (*Are GANs Created Equal?*, arXiv:1711.10337, section 5.1) measure precision and
recall on a manifold from which the distance of any picture can be computed: grey convex polygons,
of which triangles are the simplest. A picture here has seven parameters, three vertices and a grey,
and smooth edges, so that the nearest triangle can be found by least squares (``metrics/manifold``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genctl.data.arrays import Arrays
from genctl.errors import UsageError
from genctl.randomness import RandomStream
from genctl.registry import suggest

DARKEST = 0.25
"""The lowest grey: a black picture must not be a triangle."""
CANDIDATES = 64
"""Triples of vertices drawn for one triangle; four in ten are too small with the default."""
_CHUNK = 1024


@dataclass(frozen=True)
class Triangles:
    """All grey triangles of a size on a canvas, none of them tiny.

    Attributes:
        size: edge of the canvas in pixels.
        examples: pictures to train on.
        least_area: smallest area as a share of the canvas.
    """

    size: int = 28
    examples: int = 20_000
    least_area: float = 0.05

    @property
    def settings(self) -> dict[str, float]:
        """Every option with its value, for the protocol."""
        known = {"size": self.size, "examples": self.examples, "least_area": self.least_area}
        return {**known, "darkest": DARKEST}

    @property
    def least(self) -> float:
        """The smallest area in square pixels."""
        return self.least_area * self.size**2

    def draw(self, n: int, rng: RandomStream) -> tuple[Tensor, Tensor]:
        """Vertices ``(n, 3, 2)`` in pixels, uniform where the area is enough; greys ``(n,)``.

        Row i depends only on the stream's row i.
        """
        many = rng.uniform(n, CANDIDATES, 3, 2).cpu() * self.size
        grey = DARKEST + (1 - DARKEST) * rng.uniform(n).cpu()
        fits = doubled_area(many).abs() >= 2 * self.least
        first = fits.to(torch.int8).argmax(1)
        return many[torch.arange(n), first], grey

    def pictures(self, n: int, rng: RandomStream) -> Tensor:
        """``(n, 1, size, size)`` uint8."""
        vertices, grey = self.draw(n, rng)
        pairs = zip(vertices.split(_CHUNK), grey.split(_CHUNK), strict=True)
        parts = [(render(v, g, self.size) * 255).round().to(torch.uint8) for v, g in pairs]
        return torch.cat(parts)[:, None]


def read_triangles(manifold: Triangles) -> Arrays:
    """Its pictures, always the same ones: those for training, then a quarter as many to test."""
    sizes = {"train": manifold.examples, "test": -(-manifold.examples // 4)}
    parts = [
        manifold.pictures(size, RandomStream(0, "toy", "triangles", split))
        for split, size in sizes.items()
    ]
    options = ", ".join(f"{key} {value:g}" for key, value in manifold.settings.items())
    return Arrays(
        f"toy triangles ({options})",
        images=torch.cat(parts).permute(0, 2, 3, 1).numpy(),
        test=np.arange(sum(sizes.values())) >= manifold.examples,
    )


def make_triangles(options: Mapping[str, float], edge: int | None = None) -> Triangles:
    """The manifold of a SPEC's options.

    Args:
        options: as in ``toy:triangles?size=28``.
        edge: the size that a run wants; triangles are drawn so, because resized ones would lie
            beside the manifold.

    Raises:
        UsageError: unknown option, a value out of range, or two sizes.
    """
    thing = "toy:triangles"
    limits = {"size": (8, 128), "examples": (1, 200_000), "least_area": (0.005, 0.2)}
    for key, value in {**options, **({} if edge is None else {"size": edge})}.items():
        if key not in limits:
            raise UsageError(thing, f"unknown option {key!r}{suggest(key, list(limits))}", "")
        low, high = limits[key]
        whole = key != "least_area"
        if not low <= value <= high or (whole and value != int(value)):
            wanted = f"a {'whole ' if whole else ''}number from {low:g} to {high:g}"
            raise UsageError(thing, f"option {key!r} needs {wanted}, found {value:g}", "")
    size = int(options.get("size", edge or Triangles.size))
    if edge not in (None, size):
        reason = f"draws pictures of {size} pixels, and data.size is {edge}"
        raise UsageError(thing, reason, "leave size= out")
    return Triangles(
        size,
        int(options.get("examples", Triangles.examples)),
        options.get("least_area", Triangles.least_area),
    )


def doubled_area(vertices: Tensor) -> Tensor:
    """``(…, 3, 2)`` → ``(…,)`` twice the area, negative where the vertices go clockwise."""
    a, b, c = vertices.unbind(-2)
    return (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]


def edge_distances(vertices: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where every pixel's centre lies beside each of the three edges.

    Args:
        vertices: ``(N, 3, 2)`` x and y in pixels.
        size: edge of the canvas.

    Returns:
        ``(N, 3, P)`` signed distance in pixels to the line through vertices i and i + 1, positive
        inside; ``(N, 3, P)`` place along that edge, 0 at i and 1 at i + 1; ``(N, 3, 2)`` unit
        normals that point inside. P = size².
    """
    axis = torch.arange(size, dtype=vertices.dtype, device=vertices.device) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x.flatten(), y.flatten()
    edge = vertices.roll(-1, 1) - vertices
    length = torch.linalg.vector_norm(edge, dim=2, keepdim=True).clamp_min(1e-6)
    along = edge / length
    turn = torch.where(doubled_area(vertices) < 0, -1.0, 1.0)[:, None]
    normal = torch.stack([-along[..., 1] * turn, along[..., 0] * turn], 2)
    from_x, from_y = x - vertices[..., :1], y - vertices[..., 1:]
    distance = from_x * normal[..., :1] + from_y * normal[..., 1:]
    place = (from_x * along[..., :1] + from_y * along[..., 1:]) / length
    return distance, place, normal


def coverage(distance: Tensor) -> Tensor:
    """``(N, 3, P)`` signed distances → ``(N, P)``: 1 inside, 0 outside, an edge one pixel wide."""
    return (distance.amin(1) + 0.5).clamp(0, 1)


def render(vertices: Tensor, grey: Tensor, size: int) -> Tensor:
    """Vertices ``(N, 3, 2)`` in pixels and greys ``(N,)`` → ``(N, size, size)`` in [0, 1]."""
    distance, _, _ = edge_distances(vertices, size)
    return (grey[:, None] * coverage(distance)).unflatten(1, (size, size))
