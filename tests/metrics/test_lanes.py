"""Parts of a batch on cores of their own: the same numbers, and torch's threads as they were."""

import threading

import pytest
import torch

from genctl.metrics.features.lanes import in_lanes


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("examples", [1, 2, 3, 16, 17])
def test_parts_are_joined_in_order_and_none_is_too_large(two_threads, examples):
    batch = torch.arange(examples * 3.0).view(examples, 3)
    sizes = []

    def doubled(part):
        sizes.append(len(part))
        return 2 * part

    assert torch.equal(in_lanes(doubled, batch, 4), 2 * batch)
    assert max(sizes) <= 4
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) % 2 == 0 or examples == 1


def test_each_lane_has_its_share_of_the_threads_and_the_caller_keeps_its_own(two_threads):
    meet = threading.Barrier(2, timeout=30)

    def share(part):
        meet.wait()  # so that both lanes are at work at once
        torch.ones(10**6).add_(1)  # a parallel operation, at which torch sets a thread's number
        return torch.full((len(part),), torch.get_num_threads())

    assert in_lanes(share, torch.zeros(8), 4).tolist() == [1] * 8
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_an_error_in_one_part_reaches_the_caller(two_threads):
    def failing(part):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        in_lanes(failing, torch.zeros(8), 4)
    assert torch.get_num_threads() == 2
