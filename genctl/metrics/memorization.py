"""Whether generated examples repeat training examples, by distances to the nearest of them.

Every number is a Euclidean distance in one named space, and none means anything alone: beside the
generated Q stand held-out examples P, which nobody can have learned by heart.

- *copies*: share of Q within a threshold of the training set T, beside the same share of P.
- *balance*: share of Q nearer to T than to P, both of one size; ½ for an honest model.
- *Z_U*: Mann-Whitney test of d(q, T) against d(p, T) (Meehan et al. 2020, arXiv:2004.05675);
  far below 0 the model copies, far above it underfits.
- *authenticity*: share of q farther from their nearest t* than t* is from the rest of T (Alaa et
  al. 2022, arXiv:2102.08921, as the paper defines it).
- *distance ratio*: mean distance to T over mean distance to P, both of one size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genctl.metrics.measure import Array, Evidence, Measure, Settings
from genctl.metrics.neighbours import Floats, nearest

SHOWN = 8
"""Generated examples, the nearest to the training set first, whose neighbours are reported."""
NEIGHBOURS = 5


def data_copying(generated: Array, held_out: Array) -> float:
    """Z_U of distances ``(N,)`` and ``(M,)`` to the training set, with continuity correction."""
    from scipy.stats import rankdata

    n, m = len(generated), len(held_out)
    ranks = rankdata(np.concatenate([generated, held_out]))
    u = ranks[:n].sum() - n * (n + 1) / 2
    return float((u - (n * m / 2 - 0.5)) / math.sqrt(n * m * (n + m + 1) / 12))


def balance(training: Array, held_out: Array) -> float:
    """Share of examples whose distance ``(N,)`` to T is below that to P; a tie is half."""
    return float(np.mean(training < held_out) + 0.5 * np.mean(training == held_out))


def authenticity(distances: Array, of_nearest: Array) -> float:
    """Share of d(q, t*) above d(t*, T without t*), ``(N,)`` each."""
    return float(np.mean(distances > of_nearest))


def of_nearest(training: Array, rows: Array, originals: int) -> Floats:
    """``(N,)`` squared distance of training rows to the nearest other one, mirrored ones included.

    Args:
        training: ``(M, D)``, or ``(2 M, D)`` with each row's mirror image M rows later.
        rows: which of them.
        originals: M. A row is not compared with itself or with its own mirror image.
    """
    asked, back = np.unique(rows, return_inverse=True)
    numbers = np.arange(len(training)) % originals
    found, _ = nearest(training[asked], training, 1, apart=(numbers[asked], numbers))
    return found[back, 0]


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    generated, training = evidence.against_training()
    times = 2 if evidence.mirrored else 1
    originals = len(training) // times
    facts = evidence.facts.setdefault("memorization", {})
    facts |= {"n_training": originals, "mirrored": evidence.mirrored}
    squared, index = nearest(generated, training, min(NEIGHBOURS, len(training)))
    to_training = np.sqrt(squared[:, 0])
    others = None
    if originals > 1:
        others = np.sqrt(of_nearest(training, index[:, 0], originals))
    held_out = None if evidence.held_out is None else evidence.held_out.values
    beside: dict[str, Any] = {}
    usual = others
    if held_out is not None:
        held = np.sqrt(nearest(held_out[: len(held_out) // times], training, 1)[0][:, 0])
        usual = held
        size = min(originals, len(held))
        sides = [_subset(side, size, times, settings.seed) for side in (training, held_out)]
        near, far = (np.sqrt(nearest(generated, side, 1)[0][:, 0]) for side in sides)
        beside = {
            "balance": balance(near, far),
            "balance_error": 0.5 / math.sqrt(len(generated)),
            "z_u": data_copying(to_training, held),
            "distance_ratio": float(near.mean() / far.mean()) if far.any() else None,
        }
        facts |= {"n_held_out": len(held), "n_balance": size}
    threshold = settings.copy_threshold
    facts["threshold"] = "half the usual distance" if threshold is None else threshold
    if threshold is None:
        threshold = 0.0 if usual is None else 0.5 * float(np.median(usual))
    closest = np.argsort(to_training, kind="stable")[:SHOWN]
    return {
        "copies": float(np.mean(to_training <= threshold)),
        "copies_held_out": float(np.mean(held <= threshold)) if beside else None,
        "threshold": threshold,
        "balance": None,
        "balance_error": None,
        "z_u": None,
        "authenticity": None if others is None else authenticity(to_training, others),
        "distance_ratio": None,
        **beside,
        "nearest": [
            {
                "generated": int(row),
                "training": index[row].tolist(),
                "distances": np.sqrt(squared[row]).round(6).tolist(),
            }
            for row in closest
        ],
    }


def _subset(rows: Array, size: int, times: int, seed: int) -> Array:
    """``size`` rows by seed, with their mirror images where there are any."""
    originals = len(rows) // times
    if size == originals:
        return rows
    chosen = np.sort(np.random.RandomState(seed).permutation(originals)[:size])
    found: Array = rows[np.concatenate([chosen + i * originals for i in range(times)])]
    return found


MEASURE = Measure(
    "memorization",
    "copies of training examples, and distances to them beside those of held-out examples",
    ("generated", "training"),
    (
        "copies",
        "copies_held_out",
        "threshold",
        "balance",
        "balance_error",
        "z_u",
        "authenticity",
        "distance_ratio",
    ),
    _take,
    on_request=True,  # it searches the whole training set, which others need only a part of
    better="smaller",
    words=("nearest", "picture"),
)
