"""Batches fetched in the background, one ahead of the network that sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def one_ahead(batches: Iterable[T]) -> Iterator[Iterator[T]]:
    """The same batches in the same order; while one is in use, one thread fetches the next.

    An error of the source is raised where its batch would have been given. The thread ends with
    the block, however that is left.
    """
    end = object()
    source = iter(batches)

    def fetched(thread: ThreadPoolExecutor) -> Iterator[T]:
        coming = thread.submit(next, source, end)
        while (batch := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield batch  # type: ignore[misc]

    with ThreadPoolExecutor(1, "genctl-batches") as thread:
        yield fetched(thread)
