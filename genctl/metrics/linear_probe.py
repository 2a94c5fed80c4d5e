"""Linear classifiers on features, from few labels: logistic regression and the L2-SVM.

How strongly they are regularised is chosen on a fifth of the labelled examples, then they are
fitted to all of them. Test examples are seen once, at the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genctl.metrics.measure import Array, UndefinedError
from genctl.randomness import seed_of

STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
"""Values of scikit-learn's C, for features of mean square length 1; of equals the smallest wins."""
VALIDATION = 5
"""One in so many labelled examples of a class is for validation."""
ITERATIONS = 1000


@dataclass(frozen=True)
class LabelDraw:
    """Which examples have labels: rows to fit on and rows to validate on."""

    fit: Array
    validate: Array

    @property
    def all(self) -> Array:
        """``(n,)`` rows."""
        return np.concatenate([self.fit, self.validate])


def draw_labels(labels: Array, n: int, seed: int, draw: int) -> LabelDraw:
    """Choose ``n`` examples, of each class as many or one more or less.

    Args:
        labels: ``(N,)``; −1 where there is none.
        n: how many.
        seed: decides them, together with ``n`` and ``draw``.
        draw: number of the draw.

    Raises:
        UndefinedError: fewer than two for a class, or a class has too few.
    """
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise UndefinedError("the real data has no labels of two classes")
    if n < 2 * len(classes):
        raise UndefinedError(f"{n} labels are fewer than two for each of {len(classes)} classes")
    rng = np.random.default_rng(seed_of(seed, "probe labels", n, draw))
    shares = np.full(len(classes), n // len(classes))
    shares[rng.permutation(len(classes))[: n % len(classes)]] += 1
    fit, validate = [], []
    for label, share in zip(classes, shares, strict=True):
        rows = np.flatnonzero(labels == label)
        if len(rows) < share:
            raise UndefinedError(f"class {label} has {len(rows)} examples, {n} labels ask {share}")
        chosen = rng.permutation(rows)[:share]
        held = max(1, share // VALIDATION)
        validate.append(chosen[:held])
        fit.append(chosen[held:])
    return LabelDraw(np.concatenate(fit), np.concatenate(validate))


def probe_errors(
    features: Array, labels: Array, draw: LabelDraw, test: Array, test_labels: Array
) -> dict[str, float]:
    """Test error of each classifier, by its name.

    Args:
        features: ``(N, D)`` of the examples to draw from.
        labels: ``(N,)``.
        draw: those that have labels.
        test: ``(M, D)`` features.
        test_labels: ``(M,)``.
    """
    rows = draw.all
    centre = features[rows].mean(0)
    known = (features[rows] - centre).astype(np.float64)
    length = np.sqrt(np.square(known).sum(1).mean())
    known /= length if length > 0 else 1.0
    # An L2-regularised solution lies in the span of its examples, which is often much smaller.
    basis = np.linalg.qr(known.T)[0] if known.shape[1] > len(rows) else None
    small = known if basis is None else known @ basis
    cut = len(draw.fit)
    found = {}
    for name, make in {"logistic": _logistic, "svm": _svm}.items():
        model = _chosen(make, small, labels[rows], cut)
        weights = model.coef_ if basis is None else model.coef_ @ basis.T
        scores = ((test - centre) / (length or 1.0)) @ weights.T + model.intercept_
        guess = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
        found[name] = float((model.classes_[guess] != test_labels).mean())
    return found


def _chosen(make: Any, x: Array, y: Array, cut: int) -> Any:
    """The classifier with the strength of the smallest validation error, fitted to all."""
    best, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        guess = _fitted(make(strength), x[:cut], y[:cut]).predict(x[cut:])
        error = float((guess != y[cut:]).mean())
        if error < least:
            best, least = strength, error
    return _fitted(make(best), x, y)


def _fitted(model: Any, x: Array, y: Array) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # With hardly any regularisation and separable classes there is no end to converge to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def _logistic(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=ITERATIONS)


def _svm(strength: float) -> Any:
    from sklearn.svm import LinearSVC

    # Squared hinge; the primal problem is solved without drawing anything.
    return LinearSVC(C=strength, loss="squared_hinge", dual=False, max_iter=ITERATIONS)


def protocol(counts: Sequence[int], draws: int) -> dict[str, Any]:
    """How it was done, in words and numbers."""
    return {
        "labels": list(counts),
        "draws": draws,
        "classifiers": "logistic regression (lbfgs); L2-SVM, squared hinge, one against the rest",
        "strengths": list(STRENGTHS),
        "chosen_on": f"one in {VALIDATION} of the labelled examples, then fitted to all of them",
        "features": "centred on the labelled examples, scaled to a mean square length of 1",
    }
