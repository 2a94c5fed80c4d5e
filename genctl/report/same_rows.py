"""A set beside itself: the same examples of it on both sides, so that nothing is their distance.

Two sides draw their examples independently, which is right for two sets and wrong for one: what is
then measured is how much two samples of a set differ, under the name of a distance of it to itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genctl.report.sides import Examples, Sampled, Stored


def share(generated: Sampled | Examples | Stored, real: Examples | Stored) -> bool:
    """Give both sides the same rows where they are the same data and draw as many.

    Returns:
        Whether that was done; not where every example is taken anyway.
    """
    if isinstance(generated, Sampled) or len(generated) != len(real):
        return False
    if _data(generated) != _data(real) or len(generated) == _data(real)[-1]:
        return False
    if isinstance(generated, Stored) and isinstance(real, Stored):
        return _share_files(generated, real)
    if isinstance(generated, Examples) and isinstance(real, Examples):
        generated.take(real.rows)
        return True
    examples, file = (real, generated) if isinstance(real, Examples) else (generated, real)
    assert isinstance(examples, Examples)
    assert isinstance(file, Stored)
    return _share_file(examples, file)


def _data(side: Examples | Stored) -> tuple[Any, ...]:
    of = side.of if isinstance(side, Stored) else len(side.dataset)
    return side.facts["fingerprint"], side.facts["split"], of


def _share_files(generated: Stored, real: Stored) -> bool:
    if generated.numbers is None and real.numbers is None and generated.kept == real.kept:
        generated.choose(real.chosen)
        return True
    for side, other in ((generated, real), (real, generated)):
        if side.numbers is None or other.numbers is None:
            continue
        wanted = other.numbers[other.chosen]
        order = np.argsort(side.numbers, kind="stable")
        places = np.searchsorted(side.numbers, wanted, sorter=order)
        found = order[np.minimum(places, side.kept - 1)]
        if (side.numbers[found] == wanted).all():
            side.choose(found)
            return True
    return False


def _share_file(examples: Examples, file: Stored) -> bool:
    if file.numbers is None:
        return False
    rows = file.numbers[file.chosen]
    if rows.min() < 0 or rows.max() >= len(examples.dataset):
        return False
    examples.take(rows)
    return True
