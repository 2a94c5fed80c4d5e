"""Which modes of a Gaussian mixture are covered (VEEGAN, Srivastava et al. 2017, section 4).

A sample belongs to its nearest mode and is of *high quality* if it lies within three standard
deviations of it; a mode is *covered* if at least one high-quality sample belongs to it. One lucky
point counts, so the counts stand beside the number. Samples of the mixture itself are of high
quality with probability 1 − exp(−9/2) = 0.989 in the plane, not the 0.997 of one dimension.

Stacked digits (the same papers): a classifier names each colour channel by itself, a mode is a
triple of labels, covered if seen once. Counting noise alone makes KL about (K³ − 1) / 2N, and the
classifier's mistakes invent modes: the same numbers of real triples stand beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genctl.metrics.measure import (
    Array,
    Evidence,
    Measure,
    Settings,
    Stacked,
    UndefinedError,
    as_matrix,
)

SCORED = 2500
"""Samples that are scored: the protocol of all published figures."""
SCORED_STACKED = 26_000
"""The same for stacked digits."""
WITHIN = 3.0
"""Standard deviations from the mode within which a sample is of high quality."""


@dataclass(frozen=True)
class Coverage:
    """What is known of the modes after n samples.

    Attributes:
        counts: ``(K,)`` high-quality samples of each mode.
        n: samples in all.
    """

    counts: NDArray[np.int64]
    n: int

    @property
    def covered(self) -> int:
        """Modes with at least one high-quality sample."""
        return int((self.counts > 0).sum())

    @property
    def high_quality(self) -> float:
        """Share of the samples that are of high quality."""
        return int(self.counts.sum()) / self.n

    @property
    def least_share(self) -> float:
        """High-quality samples of the poorest mode, as a share of all samples."""
        return int(self.counts.min()) / self.n

    @property
    def kl(self) -> float | None:
        """KL from the histogram of high-quality samples to the uniform one, in nats; or None."""
        return reverse_kl(self.counts)


def coverage(samples: Array, modes: Array, std: float, within: float = WITHIN) -> Coverage:
    """Count the high-quality samples of each mode.

    Args:
        samples: ``(N, D)``; a row that is not finite is of no quality and counts in N.
        modes: ``(K, D)`` centres.
        std: of each mode, on every axis.
        within: standard deviations from the nearest mode up to which, included, quality is high.

    Raises:
        UndefinedError: no sample, or samples and modes of different dimension.
    """
    points, centres = as_matrix(samples), as_matrix(modes)
    if not len(points):
        raise UndefinedError("there is no sample")
    if points.shape[1] != centres.shape[1]:
        raise UndefinedError(
            f"samples of {points.shape[1]} dimensions, modes of {centres.shape[1]}"
        )
    distances = np.stack([np.linalg.norm(points - centre, axis=1) for centre in centres], axis=1)
    nearest = distances.argmin(axis=1)
    z = distances[np.arange(len(points)), nearest] / std
    counts = np.bincount(nearest[z <= within], minlength=len(centres))
    return Coverage(counts, len(points))


def reverse_kl(counts: Array) -> float | None:
    """Σ p log(K p) of a histogram over K modes, 0 log 0 = 0; None for an empty histogram."""
    total = int(np.sum(counts))
    if not total:
        return None
    p = np.asarray(counts, dtype=np.float64) / total
    p = p[p > 0]
    return float((p * np.log(len(counts) * p)).sum())


def _take(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    if evidence.generated is None or evidence.generated.values is None:
        raise UndefinedError("the generated side has no points")
    if evidence.stacked is not None:
        return _of_triples(evidence, evidence.stacked, settings.seed)
    if evidence.mixture is None:
        raise UndefinedError("the real side is no mixture of Gaussians")
    modes, std = evidence.mixture
    found = coverage(_any(evidence.generated.values, SCORED, settings.seed), modes, std)
    evidence.facts["modes"] = {"n": found.n, "std": std, "within": WITHIN}
    return {
        "covered": found.covered,
        "total": len(found.counts),
        "high_quality": found.high_quality,
        "kl": found.kl,
        "least_share": found.least_share,
        "counts": found.counts.tolist(),
    }


def _any(rows: Array, n: int, seed: int) -> Array:
    """At most ``n`` of the rows, by seed: a file may hold its modes one after the other."""
    if len(rows) <= n:
        return rows
    return rows[np.random.RandomState(seed).permutation(len(rows))[:n]]


def _of_triples(evidence: Evidence, stacked: Stacked, seed: int) -> dict[str, Any]:
    seen = None if evidence.generated is None else evidence.generated.log_probabilities
    if seen is None:
        raise UndefinedError("the features have no classes: give --features RUN of a classifier")
    total = stacked.classes**3
    if seen.shape[1] != total:
        raise UndefinedError(f"the classifier tells {seen.shape[1]} triples apart, not {total}")
    n = min(len(seen), SCORED_STACKED)
    if n < SCORED_STACKED:
        evidence.warn(f"modes: {n} samples; published figures are of {SCORED_STACKED}: -n 26000")
    evidence.facts["modes"] = {"n": n, "channel_classes": stacked.classes}
    found = Coverage(np.bincount(_any(seen, n, seed).argmax(1), minlength=total), n)
    real = stacked.real
    of_real = None if real is None else np.bincount(_any(real.predicted, n, seed), minlength=total)
    return {
        "covered": found.covered,
        "total": total,
        "high_quality": None,
        "kl": found.kl,
        "least_share": found.least_share,
        "n": n,
        "real_n": 0 if of_real is None else int(of_real.sum()),
        "real_covered": None if of_real is None else int((of_real > 0).sum()),
        "real_kl": None if of_real is None else reverse_kl(of_real),
        "accuracy": None if real is None else float(np.mean(real.predicted == real.true)),
        "counts": found.counts.tolist(),
    }


MEASURE = Measure(
    "modes",
    "modes of a toy, or of stacked digits, that are covered, and the share of samples near one",
    ("generated", "mixture"),
    (
        "covered",
        "total",
        "high_quality",
        "kl",
        "least_share",
        "n",
        "real_n",
        "real_covered",
        "real_kl",
        "accuracy",
    ),
    _take,
    better="larger",
    words=("counts",),
)
