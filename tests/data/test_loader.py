import itertools

import numpy as np
import pytest
import torch

from genctl.data.dataset import open_dataset
from genctl.data.loader import Loader, evaluation_batches
from genctl.data.ranges import to_bytes
from genctl.errors import UsageError


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits")


@pytest.fixture
def numbered(tmp_path):
    """100 images of 16 × 16 whose pixels say which image and which place they are from."""
    images = np.zeros((100, 16, 16, 3), np.uint8)
    images[..., 0] = np.arange(100)[:, None, None]
    images[..., 1] = np.arange(16)[:, None] * 16
    images[..., 2] = np.arange(16) * 16
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(100) % 7)
    return f"{tmp_path / 'x.npz'}@all"


def take(loader, n):
    return list(itertools.islice(loader, n))


def same(a, b):
    return torch.equal(a.x, b.x) and torch.equal(a.index, b.index)


def test_batches_hold_the_examples_they_name(digits, device):
    for batch in take(Loader(digits, batch_size=50, seed=0, device=device), 3):
        assert batch.x.device.type == device
        assert batch.x.dtype == torch.float32
        assert batch.x.is_contiguous()
        assert torch.equal(to_bytes(batch.x).cpu(), digits.examples[batch.index.cpu()])
        assert torch.equal(batch.y.cpu(), digits.labels[batch.index.cpu()])


def test_an_epoch_shows_every_example_once_in_another_order(digits):
    loader = Loader(digits, batch_size=64, seed=0)
    total = len(digits)
    seen = torch.cat([batch.index for batch in take(loader, 3 * total // 64 + 1)])
    epochs = [seen[k * total : (k + 1) * total] for k in range(3)]
    for order in epochs:
        assert torch.equal(order.sort().values, torch.arange(total))
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], torch.arange(total))
    assert loader.images == (3 * total // 64 + 1) * 64
    assert loader.epoch == loader.images // total


def test_seeds_differ_and_repeat(digits):
    first, again, other = (next(Loader(digits, batch_size=64, seed=s)) for s in (0, 0, 1))
    assert same(first, again)
    assert not torch.equal(first.index, other.index)


@pytest.mark.parametrize("spec", ["digits", "toy:moons"])
def test_any_position_can_be_entered(spec):
    dataset = open_dataset(spec, binarise="dynamic" if spec == "digits" else "none")
    straight = take(Loader(dataset, batch_size=100, seed=3, flip=True), 40)
    loader = Loader(dataset, batch_size=100, seed=3, flip=True)
    for position in (39, 17, 18, 0):
        loader.position = position
        assert same(next(loader), straight[position])
    loader.position = 10**12  # no walk from the start
    next(loader)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("kind", ["crop", "binarise", "toy"])
def test_the_ranks_together_see_what_one_process_sees(numbered, world, kind):
    if kind == "toy":
        dataset = open_dataset("toy:ring")
    elif kind == "crop":
        dataset = open_dataset(numbered, size=14, crop="random")
    else:
        dataset = open_dataset(numbered, binarise="dynamic")
    whole = take(Loader(dataset, batch_size=24, seed=1, flip=True), 9)
    ranks = [
        Loader(dataset, batch_size=24, seed=1, flip=True, rank=r, world=world) for r in range(world)
    ]
    for batch in whole:
        parts = [next(loader) for loader in ranks]
        assert torch.equal(torch.cat([part.x for part in parts]), batch.x)
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)


@pytest.mark.parametrize("binarise", ["none", "threshold", "dynamic", "fixed"])
@pytest.mark.parametrize("crop", ["centre", "random"])
def test_examples_that_stay_on_the_device_give_the_same_batches(numbered, device, crop, binarise):
    grey = open_dataset("digits", size=6, crop=crop, binarise=binarise)
    colour = open_dataset(numbered, size=14, crop=crop, binarise=binarise)
    for dataset in (grey, colour):
        streaming, resident = (
            Loader(dataset, batch_size=48, seed=5, device=device, flip=True, resident=r)
            for r in (False, True)
        )
        for a, b in zip(take(streaming, 5), take(resident, 5), strict=True):
            assert same(a, b)
            assert a.x.device == b.x.device
            assert a.y is b.y or torch.equal(a.y, b.y)
        there = resident._examples.device.type
        assert there == ("cpu" if binarise == "dynamic" else device)
        assert streaming._examples.device.type == "cpu"


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_examples_stay_on_the_device_where_they_fit(digits, device, share, monkeypatch):
    monkeypatch.setattr("genctl.data.loader.RESIDENT_SHARE", share)
    loader = Loader(digits, batch_size=48, seed=5, device=device)
    next(loader)
    assert loader._examples.device.type == (device if share else "cpu")


def test_a_batch_that_cannot_be_shared_is_refused(digits):
    with pytest.raises(UsageError, match="cannot be shared"):
        Loader(digits, batch_size=10, seed=0, world=3)


def test_a_small_set_is_cycled_and_said_so(digits):
    few = open_dataset("digits", limit=10)
    loader = Loader(few, batch_size=25, seed=0)
    counts = torch.bincount(next(loader).index, minlength=10)
    assert counts.sum() == 25
    assert counts.max() - counts.min() <= 1
    assert "repeated" in loader.notes[0]
    assert Loader(digits, batch_size=25, seed=0).notes == []


def test_flips_mirror_half_of_the_images(numbered):
    dataset = open_dataset(numbered)
    loader = Loader(dataset, batch_size=100, seed=0, flip=True)
    mirrored = 0
    for batch in take(loader, 20):
        plain = dataset.examples[batch.index]
        x = to_bytes(batch.x)
        straight = (x == plain).flatten(1).all(1)
        turned = (x == plain.flip(3)).flatten(1).all(1)
        assert (straight ^ turned).all()
        mirrored += int(turned.sum())
    assert abs(mirrored - 1000) < 5 * 500**0.5


def test_random_crops_are_windows_of_the_stored_image(numbered):
    # 14 + ceil(14 / 8) = 16: the margin is the whole original, so windows are exact pixels.
    dataset = open_dataset(numbered, size=14, crop="random")
    assert dataset.spec.shape == (3, 14, 14)
    assert dataset.examples.shape[2:] == (16, 16)
    seen = set()
    for batch in take(Loader(dataset, batch_size=50, seed=0), 20):
        for x, i in zip(to_bytes(batch.x), batch.index, strict=True):
            top, left = int(x[1, 0, 0]) // 16, int(x[2, 0, 0]) // 16
            seen.add((top, left))
            assert torch.equal(x, dataset.examples[i, :, top : top + 14, left : left + 14])
    assert seen == {(a, b) for a in range(3) for b in range(3)}
    middle = dataset.images(torch.arange(2))
    assert torch.equal(middle, dataset.examples[:2, :, 1:15, 1:15])


def test_random_crops_need_a_size(numbered):
    with pytest.raises(UsageError, match=r"data\.crop=random"):
        open_dataset(numbered, crop="random")


def test_dynamic_binarisation_draws_each_time_with_the_grey_as_probability():
    dataset = open_dataset("digits", binarise="dynamic", limit=64)
    assert dataset.spec.levels == 2
    loader = Loader(dataset, batch_size=64, seed=0)
    total = torch.zeros(64, 64)
    draws = 400
    for batch in take(loader, draws):
        assert set(batch.x.unique().tolist()) <= {-1.0, 1.0}
        total[batch.index] += (batch.x.flatten(1) + 1) / 2
    p = dataset.examples.flatten(1).float() / 255
    error = (total / draws - p) / (p * (1 - p) / draws).sqrt().clamp_min(1e-3)
    assert error.abs().max() < 6
    assert 0.8 < float(error[(p > 0.05) & (p < 0.95)].std()) < 1.2
    assert (total[p == 0] == 0).all()
    assert (total[p == 1] == draws).all()


def test_threshold_and_fixed_binarisation():
    plain = open_dataset("digits")
    batch = next(Loader(open_dataset("digits", binarise="threshold"), batch_size=32, seed=0))
    assert torch.equal(batch.x == 1, plain.examples[batch.index] >= 128)
    fixed = open_dataset("digits", binarise="fixed")
    assert set(fixed.examples.unique().tolist()) == {0, 255}
    assert torch.equal(fixed.examples, open_dataset("digits", binarise="fixed").examples)
    for seed in (0, 1):
        batch = next(Loader(fixed, batch_size=32, seed=seed))
        assert torch.equal(to_bytes(batch.x), fixed.examples[batch.index])


def test_the_test_set_is_drawn_once_whatever_the_batch_size_and_the_mode():
    dynamic = open_dataset("digits@test", binarise="dynamic")
    small, large = (
        torch.cat([batch.x for batch in evaluation_batches(dynamic, size)]) for size in (7, 100)
    )
    assert torch.equal(small, large)
    fixed = open_dataset("digits@test", binarise="fixed")
    assert torch.equal(small, torch.cat([batch.x for batch in evaluation_batches(fixed, 30)]))
    grey = open_dataset("digits@test")
    named = evaluation_batches(grey, 100, binarise="dynamic")
    assert torch.equal(small, torch.cat([batch.x for batch in named]))
    assert (small[grey.examples == 0] == -1).all()


def test_evaluation_goes_through_everything_in_order(digits, device):
    batches = list(evaluation_batches(digits, 100, device))
    assert torch.equal(torch.cat([b.index.cpu() for b in batches]), torch.arange(len(digits)))
    assert torch.equal(torch.cat([to_bytes(b.x).cpu() for b in batches]), digits.examples)
    assert torch.equal(torch.cat([b.y.cpu() for b in batches]), digits.labels)


def test_toy_draws_are_fresh():
    dataset = open_dataset("toy:ring")
    batches = take(Loader(dataset, batch_size=64, seed=0), 3)
    assert batches[0].x.shape == (64, 2)
    assert len(torch.unique(torch.cat([batch.x for batch in batches]), dim=0)) == 192
    test = open_dataset("toy:ring@test")
    assert not torch.equal(test.examples, dataset.examples)
