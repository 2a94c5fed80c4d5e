"""Distances on a known manifold: of samples to it, and of test pictures to what a run can make."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genctl.data.dataset import Dataset
from genctl.data.ranges import from_bytes, to_unit
from genctl.data.triangles import Triangles
from genctl.engine.run import Run
from genctl.latent.projection import nearest_of, project
from genctl.metrics.nearest_triangle import FINALISTS, ITERATIONS, STARTS, distance_to_triangles
from genctl.metrics.of_model import ManifoldDistances
from genctl.report.sides import Examples, Sampled, chosen_rows, used

SAMPLES, TARGETS = 1024, 256
"""Samples whose distance is computed, and test pictures that are sought, at most."""
POOL, TRIES, STEPS = 2048, 3, 200
"""Latents whose pictures are looked at, the nearest of which are followed, for so many steps."""
_ROWS = 32


def distances(
    generated: Sampled | Examples,
    test: Dataset,
    run: Run | None,
    *,
    n: int,
    seed: int,
    batch_size: int,
) -> tuple[ManifoldDistances, str]:
    """Both distances, in grey levels of [0, 1], and why there is no second one, if there is none.

    Args:
        generated: what is measured.
        test: pictures of a known manifold.
        run: what made them, to invert it; None where there is only a folder.
        n: samples and test pictures at most.
        seed: chooses the test pictures and the latents.
        batch_size: samples at a time.
    """
    assert test.manifold is not None
    near = _of_samples(generated, test.manifold, min(n, SAMPLES), batch_size)
    rows = chosen_rows(len(test), min(n, TARGETS), seed, "manifold")
    targets = to_unit(from_bytes(test.images(rows)))
    reason = ""
    inverse: Tensor | None = None
    if run is None:
        reason = "there is no generator to invert, only its pictures"
    elif not hasattr(run.model, "sample_latent"):
        reason = "the model has no latent space to search"
    else:
        try:
            inverse = _of_inverse(run, targets, seed)
        except ValueError as error:
            reason = str(error)
    protocol: dict[str, Any] = {
        "manifold": {"name": "triangles", **test.manifold.settings},
        "distance": "Euclidean, grey levels in [0, 1]",
        "nearest": f"least squares from {STARTS} starts, {FINALISTS} followed, "
        f"{sum(ITERATIONS)} iterations",
        "inverse": f"Adam on the latent from the nearest {TRIES} of {POOL}, {STEPS} steps",
        "split": test.split,
        **used(test.fingerprint, len(rows), len(test), seed),
    }
    found = None if inverse is None else inverse.cpu().numpy()
    return ManifoldDistances(near.numpy(), found, protocol), reason


def _of_samples(
    generated: Sampled | Examples, manifold: Triangles, count: int, batch_size: int
) -> Tensor:
    """``(count,)`` or fewer."""
    parts: list[Tensor] = []
    for batch in generated.batches(batch_size):
        pictures = to_unit(from_bytes(batch[: count - sum(map(len, parts))]))
        parts.append(distance_to_triangles(pictures, manifold))
        if sum(map(len, parts)) >= count:
            break
    return torch.cat([torch.empty(0), *parts])


def _of_inverse(run: Run, targets: Tensor, seed: int) -> Tensor:
    """``(M,)`` distance of each test picture to the nearest one found in the run's reach.

    Raises:
        ValueError: the generator has no gradient.
    """
    model: Any = run.model

    def decode(z: Tensor) -> Tensor:
        return to_unit(model.decode(z).float())

    targets = targets.to(run.device)
    with torch.no_grad():
        pool = model.sample_latent(POOL, run.stream(seed, "manifold"))
        made = torch.cat([decode(part) for part in pool.split(_ROWS * TRIES)])
        first = nearest_of(made, targets, TRIES)
        starts = pool[first]
        if hasattr(model, "encode"):
            codes = model.encode(targets * 2 - 1).view(len(targets), 1, *pool.shape[1:])
            starts = torch.cat([starts, codes], 1)
    pairs = zip(targets.split(_ROWS), starts.split(_ROWS), strict=True)
    return torch.cat([project(decode, goal, begin, STEPS)[1] for goal, begin in pairs])
