"""A disk that is nearly full: what memory holds goes on in memory, and the rest is refused in words."""

import errno
import os
import shutil
from collections import namedtuple

import pytest
import torch

from genctl.data import build, cache, rough
from genctl.data.dataset import open_dataset
from genctl.errors import DataError
from genctl.printable import size_in_words

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def painted(tmp_path, paint, monkeypatch):
    """40 images that are cached, 12 KiB each; opened in the ordinary way."""
    monkeypatch.setattr(build, "CACHE_FROM_FILES", 1)
    paint(tmp_path / "set", 40, size=(64, 64))
    spec = str(tmp_path / "set")
    usual = open_dataset(spec, split="all").examples.clone()
    cache.clear_cache()
    return spec, usual


@pytest.fixture
def disk(monkeypatch):
    """Set the free bytes of every disk."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - free, free))

    return set_free


@pytest.mark.parametrize("in_memory", [rough.ROUGH_IN_MEMORY_BYTES, 0])
@pytest.mark.parametrize("free", [0, 400_000, 600_000, 10**8])
def test_what_memory_holds_needs_no_disk(painted, disk, free, in_memory, monkeypatch):
    spec, usual = painted
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", in_memory)
    disk(free)
    dataset = open_dataset(spec, split="all")
    assert torch.equal(dataset.examples, usual)
    kept = free > usual.nbytes  # the finished rows once; while they are made, they are in memory
    assert len(cache.cache_info()["entries"]) == kept
    said = [text for text in dataset.warnings if "stay in memory" in text]
    assert len(said) == (not kept)
    assert all("No space left on device" in text for text in said)


def test_a_disk_that_fills_while_rows_are_written(painted, monkeypatch):
    """As with a quota, of which the free room says nothing."""
    spec, usual = painted
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", 0)
    original, rows = os.pwrite, []

    def full(descriptor, data, place):
        rows.append(place)
        if len(rows) > 5:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return original(descriptor, data, place)

    monkeypatch.setattr(os, "pwrite", full)
    sizes = []
    store = cache.store

    def watched(*arguments):
        sizes.extend(path.stat().st_size for path in cache.cache_folder().glob(".tmp-*/rough"))
        return store(*arguments)

    monkeypatch.setattr(cache, "store", watched)
    assert torch.equal(open_dataset(spec, split="all").examples, usual)
    assert len(rows) > 5
    assert sizes == [0]  # what was written in vain takes no room
    assert not list(cache.cache_folder().glob(".tmp*"))


def test_what_neither_holds_is_refused_with_a_size_that_fits(painted, disk, monkeypatch):
    spec, _ = painted
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rough, "physical_memory", lambda: 600_000)
    disk(1_000)
    with pytest.raises(DataError) as caught:
        open_dataset(spec, split="all", size=64)
    assert "40 images unpack to 480.0 KiB, more than the memory holds" in caught.value.reason
    assert f"{cache.cache_folder()} does not take them (No space left" in caught.value.reason
    assert "--set data.size=32" in caught.value.remedy
    assert "GENCTL_CACHE" in caught.value.remedy
    for size in (32, 28):  # what it says helps
        assert len(open_dataset(spec, split="all", size=size)) == 40
    monkeypatch.setattr(rough, "physical_memory", lambda: 40_000)
    with pytest.raises(DataError) as caught:
        open_dataset(spec, split="all", size=16, crop="random")
    assert "data.size=8" in caught.value.remedy
    monkeypatch.setattr(rough, "physical_memory", lambda: 4_000)
    with pytest.raises(DataError) as caught:
        open_dataset(spec, split="all", size=8)
    assert "data.size" not in caught.value.remedy


def test_rows_on_the_disk_that_memory_does_not_hold_are_not_taken_there(painted, monkeypatch):
    """The disk fills between the rows and the entry made of them."""
    spec, _ = painted
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rough, "physical_memory", lambda: 600_000)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "store", full)
    with pytest.raises(DataError, match=r"more than the memory holds, and .*No space left"):
        open_dataset(spec, split="all")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (18_432_000, "17.6 MiB"),
     (2**31, "2.0 GiB"), (2**42, "4,096.0 GiB")],
)  # fmt: skip
def test_sizes_are_said_in_a_unit_that_shows_them(count, words):
    assert size_in_words(count) == words
