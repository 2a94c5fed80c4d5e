"""How far a picture is from the nearest grey triangle.

The nearest triangle is found by least squares over its seven parameters, from several starts: the
best of a bank of random triangles, refined by Levenberg and Marquardt's method. A distance found so
is that of a triangle that exists: it can only be too large.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.data.triangles import (
    DARKEST,
    Triangles,
    coverage,
    doubled_area,
    edge_distances,
    render,
)
from genctl.randomness import RandomStream

BANK = 4096
STARTS, FINALISTS = 6, 2
"""Triangles that are tried for a picture, and those of them that are followed to the end."""
ITERATIONS = (10, 30)
_ROWS = 512


@torch.no_grad()
def distance_to_triangles(pictures: Tensor, manifold: Triangles) -> Tensor:
    """Euclidean distance of each picture to the manifold, grey levels in [0, 1].

    Args:
        pictures: ``(N, 1, size, size)`` in [0, 1].
        manifold: which triangles there are.

    Returns:
        ``(N,)`` float32.
    """
    vertices, _ = manifold.draw(BANK, RandomStream(0, "nearest triangle"))
    bank = torch.cat(
        [render(part, torch.ones(len(part)), manifold.size) for part in vertices.split(_ROWS)]
    ).flatten(1)
    found = [
        _nearest(rows.flatten(1).float().cpu(), vertices, bank, manifold)
        for rows in pictures.split(_ROWS // STARTS)
    ]
    return torch.cat([torch.empty(0), *found])


def _nearest(x: Tensor, vertices: Tensor, bank: Tensor, manifold: Triangles) -> Tensor:
    """``(n, P)`` pictures → ``(n,)`` distances."""
    energy = bank.square().sum(1)
    overlap = x @ bank.T
    grey = (overlap / energy).clamp(DARKEST, 1)
    misfit = grey.square() * energy - 2 * grey * overlap
    best = misfit.topk(STARTS, dim=1, largest=False).indices.flatten()
    chosen = grey.gather(1, best.view(len(x), STARTS)).flatten()
    start = torch.cat([vertices[best].flatten(1), chosen[:, None]], 1)
    tried, distance = refine(start, x.repeat_interleave(STARTS, 0), manifold, ITERATIONS[0])
    first = distance.view(len(x), STARTS).topk(FINALISTS, dim=1, largest=False).indices
    finalists = tried.view(len(x), STARTS, 7).gather(1, first[:, :, None].expand(-1, -1, 7))
    rows = x.repeat_interleave(FINALISTS, 0)
    distance = refine(finalists.flatten(0, 1), rows, manifold, ITERATIONS[1])[1]
    return distance.view(len(x), FINALISTS).amin(1)


def refine(
    parameters: Tensor, x: Tensor, manifold: Triangles, iterations: int = sum(ITERATIONS)
) -> tuple[Tensor, Tensor]:
    """Move triangles towards their pictures by damped least squares, inside the manifold.

    Args:
        parameters: ``(n, 7)`` three vertices and a grey, of the manifold.
        x: ``(n, P)`` pictures.
        manifold: its limits are kept.
        iterations: each tries one step; a step that does not help is undone and damped more.

    Returns:
        ``(n, 7)`` parameters and ``(n,)`` distances.
    """
    damping = torch.full((len(x),), 1e-2)
    residual, slope = _residual(parameters, x, manifold.size)
    cost = residual.square().sum(1)
    for _ in range(iterations):
        normal = slope.transpose(1, 2) @ slope
        pull = (slope.transpose(1, 2) @ residual[:, :, None])[:, :, 0]
        diagonal = normal.diagonal(dim1=1, dim2=2)
        damped = normal + torch.diag_embed(damping[:, None] * diagonal + 1e-6)
        step = torch.linalg.solve(damped, pull[:, :, None])[:, :, 0]
        trial = _inside(parameters - step, manifold)
        new_residual, new_slope = _residual(trial, x, manifold.size)
        new_cost = new_residual.square().sum(1)
        large = doubled_area(trial[:, :6].view(-1, 3, 2)).abs() >= 2 * manifold.least * (1 - 1e-5)
        better = (new_cost < cost) & large
        parameters = torch.where(better[:, None], trial, parameters)
        residual = torch.where(better[:, None], new_residual, residual)
        slope = torch.where(better[:, None, None], new_slope, slope)
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, damping / 3, damping * 4).clamp(1e-7, 1e7)
    return parameters, cost.sqrt()


def _inside(parameters: Tensor, manifold: Triangles) -> Tensor:
    """The nearest allowed grey; vertices on the canvas; a triangle that is too small grown."""
    vertices = parameters[:, :6].view(-1, 3, 2)
    centre = vertices.mean(1, keepdim=True)
    area = doubled_area(vertices).abs().clamp_min(1e-6) / 2
    grow = (manifold.least / area).sqrt().clamp(1, 4)[:, None, None]
    vertices = (centre + (vertices - centre) * grow).clamp(0, manifold.size)
    return torch.cat([vertices.flatten(1), parameters[:, 6:].clamp(DARKEST, 1)], 1)


def _residual(parameters: Tensor, x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Picture of the triangle less ``x``, ``(n, P)``, and its slope ``(n, P, 7)``.

    Only the edge that decides a pixel moves it, and only where the pixel is partly covered: with
    the pixel at the share t along the edge, its distance follows the ends by −(1 − t) and −t.
    """
    grey = parameters[:, 6:]
    distance, place, normal = edge_distances(parameters[:, :6].view(-1, 3, 2), size)
    covered = coverage(distance)
    nearest = distance.amin(1, keepdim=True)
    decides = (distance == nearest) & ((nearest + 0.5) > 0) & ((nearest + 0.5) < 1)
    weight = -grey[:, :, None] * decides
    by_first, by_second = weight * (1 - place), weight * place
    turned = normal.roll(1, 1)
    moved = by_first[..., None] * normal[:, :, None] + (
        by_second.roll(1, 1)[..., None] * turned[:, :, None]
    )
    slope = torch.cat([moved.permute(0, 2, 1, 3).flatten(2), covered[:, :, None]], 2)
    return grey * covered - x, slope
