"""Exact distances between many rows within bounded memory, and nearest neighbours by them.

Distances come from matrix products, ``|a|² + |b|² − 2 a·b``, which round: features near 100 with
spread 0.1 lose every digit in float32. Here rows are centred and multiplied in float64, every block
carries a bound on its error, and whatever lies within that bound of a decision is measured again
from the difference of the rows. Equal rows are therefore at distance 0 and ties are ties.
All distances are squared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genctl.data.cache import forget
from genctl.metrics.measure import Array, as_matrix

BLOCK_BYTES = 2**26
"""Of one block of distances, and of the differences that are measured at a time."""
SPARE = 8
"""Candidates beyond the k nearest that are measured again: rounding may have swapped them. Where it
may have hidden more, those are too."""
CENTRE_ROWS = 101
"""How many rows the centre is the median of: one row far away must not carry it off."""
FLAT = 8
"""Dimensions up to which a tree finds candidates faster than all distances do: toys."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """Squared distances from some rows of x to some rows of y.

    Attributes:
        rows: which rows of x.
        columns: which rows of y.
        values: ``(n, m)``, off by at most ``error``.
        error: ``(n, m)`` bound on the rounding of ``values``.
        x: the chosen rows themselves.
        y: likewise.
    """

    rows: slice
    columns: slice
    values: Floats
    error: Floats
    x: Array
    y: Array

    def within(self, limits: Floats, *, closed: bool) -> Bools:
        """Which pairs are at a squared distance below the limit; ``closed``: or at it.

        Args:
            limits: squared distances, ``(n, 1)`` or ``(1, m)`` or ``(n, m)``.
            closed: ≤ instead of <.
        """
        inside: Bools = self.values < limits
        rows, columns = np.nonzero(np.abs(self.values - limits) <= self.error)
        if len(rows):
            exact = self._exact(rows, columns)
            limit = np.broadcast_to(limits, self.values.shape)[rows, columns]
            inside[rows, columns] = exact <= limit if closed else exact < limit
        return inside

    def _exact(self, rows: Array, columns: Array) -> Floats:
        """Pairs measured again; copies of one row (a collapsed generator) are measured once."""
        if len(rows) <= 4 * (len(self.x) + len(self.y)):
            return between(self.x, self.y, rows, columns)
        first, second = _first_of_equal(self.x)[rows], _first_of_equal(self.y)[columns]
        pairs, back = np.unique(first * len(self.y) + second, return_inverse=True)
        return between(self.x, self.y, *np.divmod(pairs, len(self.y)))[back]


def _first_of_equal(rows: Array) -> NDArray[np.int64]:
    """``(N,)`` for each row the number of one that equals it bit for bit, the same for all such."""
    whole = np.ascontiguousarray(rows)
    as_bytes = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1])))[:, 0]
    _, first, back = np.unique(as_bytes, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[back]
    return found


def between(x: Array, y: Array, rows: Array, columns: Array) -> Floats:
    """``(P,)`` squared distances of pairs of rows, from their differences in float64."""
    found = np.empty(len(rows))
    step = max(1, BLOCK_BYTES // (24 * x.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = as_matrix(x[rows[part]]) - as_matrix(y[columns[part]])
        np.square(difference, out=difference)
        found[part] = difference.sum(axis=1)
    return found


def blocks(x: Array, y: Array) -> Iterator[Block]:
    """Squared distances between all rows ``(N, D)`` and all rows ``(M, D)``, block by block.

    For a part of x all parts of y follow, before the next part of x comes.
    """
    some = np.linspace(0, len(y) - 1, min(len(y), CENTRE_ROWS)).astype(np.int64)
    centre = np.median(as_matrix(y[some]), axis=0)
    width = x.shape[1]
    # Higham, Accuracy and Stability, (3.5): a sum of D products is off by D·u of their magnitude.
    unit = (4 * width + 16) * np.finfo(np.float64).eps / 2
    tall = max(1, min(len(x), BLOCK_BYTES // (8 * width)))
    wide = max(1, min(len(y), BLOCK_BYTES // (8 * width)))
    low = max(1, BLOCK_BYTES // (8 * wide))
    for start in range(0, len(x), min(tall, low)):
        rows = slice(start, min(start + min(tall, low), len(x)))
        a = as_matrix(x[rows]) - centre
        a2 = np.einsum("nd,nd->n", a, a)[:, None]
        for first in range(0, len(y), wide):
            columns = slice(first, min(first + wide, len(y)))
            b = as_matrix(y[columns]) - centre
            size = a2 + np.einsum("nd,nd->n", b, b)
            values = a @ b.T
            values *= -2.0
            values += size
            np.maximum(values, 0.0, out=values)
            size *= unit
            yield Block(rows, columns, values, size, x[rows], y[columns])
            forget(y)
        forget(x)


def nearest(
    x: Array, y: Array, k: int, *, apart: tuple[Array, Array] | None = None
) -> tuple[Floats, NDArray[np.int64]]:
    """The k nearest rows of y for each row of x.

    Args:
        x: ``(N, D)``.
        y: ``(M, D)``.
        k: how many.
        apart: a number for each row of x and of y; rows of the same number are not compared. For
            neighbours in one set, the numbers of the rows: k counts *other* rows.

    Returns:
        ``(N, k)`` squared distances, ascending, and which rows of y they belong to. Where there are
        fewer than k to compare with, the distance is infinite.
    """
    if apart is None and x.shape[1] <= FLAT:
        return _by_tree(x, y, k)
    squared = np.full((len(x), k), np.inf)
    index = np.zeros((len(x), k), dtype=np.int64)
    for block in blocks(x, y):
        values = block.values
        if apart is not None:
            mine, theirs = apart[0][block.rows], apart[1][block.columns]
            values[mine[:, None] == theirs[None, :]] = np.inf
        kept = min(k + SPARE, values.shape[1])
        if kept < values.shape[1]:
            candidates = np.argpartition(values, kept - 1, axis=1)[:, :kept]
        else:
            candidates = np.tile(np.arange(kept), (len(values), 1))
        rows = np.repeat(np.arange(len(values)), kept)
        exact = between(block.x, block.y, rows, candidates.ravel()).reshape(-1, kept)
        exact[np.isinf(np.take_along_axis(values, candidates, axis=1))] = np.inf
        if kept < values.shape[1]:
            _take_in_hidden(block, candidates, exact, k)
        exact = np.concatenate([squared[block.rows], exact], axis=1)
        which = np.concatenate([index[block.rows], candidates + block.columns.start], axis=1)
        order = np.lexsort((which, exact), axis=1)[:, :k]
        squared[block.rows] = np.take_along_axis(exact, order, axis=1)
        index[block.rows] = np.take_along_axis(which, order, axis=1)
    return squared, index


def _take_in_hidden(block: Block, candidates: NDArray[np.int64], exact: Floats, k: int) -> None:
    """Replace candidates, in place, by what rounding may have hidden: nearer than the k-th."""
    limit = np.partition(exact, k - 1, axis=1)[:, k - 1 : k]
    doubtful = block.values - block.error < limit
    np.put_along_axis(doubtful, candidates, False, axis=1)
    doubtful &= limit > 0  # nothing is nearer than 0
    found = np.flatnonzero(doubtful.any(axis=1))
    if not len(found):
        return
    measured = np.full((len(found), block.values.shape[1]), np.inf)
    np.put_along_axis(measured, candidates[found], exact[found], axis=1)
    rows, columns = np.nonzero(doubtful[found])
    measured[rows, columns] = block._exact(found[rows], columns)
    measured[np.isinf(block.values[found])] = np.inf
    candidates[found] = np.argsort(measured, axis=1, kind="stable")[:, : candidates.shape[1]]
    exact[found] = np.take_along_axis(measured, candidates[found], axis=1)


def radii(rows: Array, *ks: int) -> list[Floats]:
    """For each k, ``(N,)`` squared distance of every row to its k-th nearest *other* row."""
    numbers = np.arange(len(rows))
    if rows.shape[1] <= FLAT:
        squared, _ = _by_tree(rows, rows, max(ks), own=True)
    else:
        squared, _ = nearest(rows, rows, max(ks), apart=(numbers, numbers))
    return [squared[:, k - 1] for k in ks]


def _by_tree(x: Array, y: Array, k: int, *, own: bool = False) -> tuple[Floats, NDArray[np.int64]]:
    """As ``nearest``; ``own``: x and y are one set, and no row is its own neighbour."""
    from scipy.spatial import cKDTree

    asked = min(k + own + SPARE, len(y))
    _, index = cKDTree(as_matrix(y)).query(as_matrix(x), k=np.arange(1, asked + 1))
    rows = np.repeat(np.arange(len(x)), asked)
    exact = between(x, y, rows, index.ravel()).reshape(-1, asked)
    if own:
        exact[index == np.arange(len(x))[:, None]] = np.inf
    if asked < k:
        missing = ((0, 0), (0, k - asked))
        exact, index = np.pad(exact, missing, constant_values=np.inf), np.pad(index, missing)
    order = np.lexsort((index, exact), axis=1)[:, :k]
    return np.take_along_axis(exact, order, axis=1), np.take_along_axis(index, order, axis=1)
