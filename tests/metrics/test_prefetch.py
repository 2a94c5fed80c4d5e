from __future__ import annotations

import threading

import pytest

from genctl.metrics.features.prefetch import one_ahead


def ours():
    return [t for t in threading.enumerate() if t.name.startswith("genctl-batches")]


def test_batches_keep_their_order_and_the_thread_ends():
    with one_ahead(range(20)) as batches:
        assert list(batches) == list(range(20))
        assert len(ours()) == 1
    assert not ours()
    with one_ahead([]) as batches:
        assert list(batches) == []


def test_the_next_batch_is_fetched_while_one_is_in_use_and_no_further():
    begun = [threading.Event() for _ in range(4)]

    def source():
        for i, event in enumerate(begun):
            event.set()
            yield i

    with one_ahead(source()) as batches:
        assert next(batches) == 0
        assert begun[1].wait(10)  # though nobody has asked for it
        assert not begun[2].wait(0.05)
        assert next(batches) == 1
        assert begun[2].wait(10)
        assert not begun[3].is_set()


def test_an_error_of_the_source_comes_where_its_batch_would_have():
    def source():
        yield 1
        raise ZeroDivisionError("the second")

    with one_ahead(source()) as batches:
        assert next(batches) == 1
        with pytest.raises(ZeroDivisionError, match="the second"):
            next(batches)
    assert not ours()


def test_an_error_of_the_user_leaves_no_thread():
    def use():
        with one_ahead(range(9)) as batches:
            raise KeyError(next(batches))

    with pytest.raises(KeyError):
        use()
    assert not ours()
