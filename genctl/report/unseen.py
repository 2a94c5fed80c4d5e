"""Whether held-out examples were really not trained on, by their content.

Beside examples of the training part a model that copies looks honest: the share of copies, the
balance and Z_U compare it with what nobody can have learned by heart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from genctl.errors import UsageError
from genctl.metrics.rows import BLOCK
from genctl.report.sides import Examples, Stored


def overlap(training: Examples | Stored, held_out: Examples | Stored) -> list[str]:
    """What must be said of held-out examples that are training examples, too; nothing of none.

    Raises:
        UsageError: all of them are.
    """
    wanted = list(_digests(held_out))
    known = set(wanted)
    seen = {digest for digest in _digests(training) if digest in known}
    count = sum(digest in seen for digest in wanted)
    if not count:
        return []
    if count == len(wanted):
        raise UsageError(
            f"--held-out {held_out.name}",
            f"all of its {count} examples are in the training part, {training.name}",
            "give examples that were not trained on, such as SPEC@test beside SPEC@train",
        )
    return [
        f"memorization: {count} of {len(wanted)} held-out examples of {held_out.name} are in the "
        f"training part, {training.name}, too"
    ]


def _digests(side: Examples | Stored) -> Iterator[bytes]:
    """Of each example; pictures by their bytes, shape included, features as they are stored."""
    if isinstance(side, Examples):
        blocks = (batch.numpy() for batch in side.batches(BLOCK))
    else:
        rows = side.features.values
        if rows is None:
            return
        blocks = (rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK))
    for block in blocks:
        for row in np.ascontiguousarray(block):
            yield hashlib.blake2b(
                f"{row.dtype}{row.shape}".encode() + row.tobytes(), digest_size=16
            ).digest()
