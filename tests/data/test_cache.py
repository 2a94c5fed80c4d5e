import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from genctl.data import build, cache
from genctl.data.dataset import open_dataset
from genctl.errors import DataError


@pytest.fixture(autouse=True)
def cache_everything(monkeypatch):
    monkeypatch.setattr(build, "CACHE_FROM_FILES", 1)


@pytest.fixture
def decodes(monkeypatch):
    """Counts the files decoded."""
    seen = []
    monkeypatch.setattr(build, "decode", lambda *a: (seen.append(1), REAL(*a))[1])
    return seen


REAL = build.decode


def entry_file(name):
    (entry,) = cache.cache_info()["entries"]
    return cache.cache_folder() / entry["key"] / name


def test_the_second_opening_decodes_nothing(tmp_path, paint, decodes):
    paint(tmp_path / "set", 20)
    first = open_dataset(str(tmp_path / "set"), size=8)
    assert len(decodes) == 20
    again = open_dataset(str(tmp_path / "set"), size=8)
    assert len(decodes) == 20
    assert torch.equal(first.examples, again.examples)
    assert (first.names, first.fingerprint) == (again.names, again.fingerprint)


def test_another_size_or_a_changed_file_is_decoded_anew(tmp_path, paint, decodes):
    paths = paint(tmp_path / "set", 20)
    first = open_dataset(str(tmp_path / "set"), size=8, split="all")
    open_dataset(str(tmp_path / "set"), size=4)
    assert len(decodes) == 40
    # Equal size, equal modification time, other content.
    facts = os.stat(paths[0])
    raw = bytearray(paths[0].read_bytes())
    paths[0].write_bytes(paths[1].read_bytes()[: len(raw)].ljust(len(raw), b"\0"))
    os.utime(paths[0], ns=(facts.st_atime_ns, facts.st_mtime_ns))
    second = open_dataset(str(tmp_path / "set"), size=8, split="all")
    assert len(decodes) == 60
    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path, paint):
    paint(tmp_path / "a", 20)
    paint(tmp_path / "elsewhere", 20)
    a, b = open_dataset(str(tmp_path / "a")), open_dataset(str(tmp_path / "elsewhere"))
    assert a.fingerprint == b.fingerprint
    assert open_dataset(str(tmp_path / "a"), size=6).fingerprint != a.fingerprint


@pytest.mark.parametrize("how", ["byte", "cut", "index", "gone", "shape"])
def test_a_damaged_entry_is_found_and_rebuilt(tmp_path, paint, decodes, how):
    paint(tmp_path / "set", 20)
    first = open_dataset(str(tmp_path / "set"))
    path = entry_file("index.json" if how in ("index", "shape") else "images.npy")
    raw = bytearray(path.read_bytes())
    if how == "byte":
        raw[-3] ^= 1
    elif how == "cut":
        raw = raw[:-10]
    elif how == "shape":
        raw = raw.replace(b'"shape": [20,', b'"shape": [21,')
    else:
        raw = raw[: len(raw) // 2]
    path.unlink() if how == "gone" else path.write_bytes(raw)
    before = len(decodes)
    again = open_dataset(str(tmp_path / "set"))
    assert len(decodes) - before in (20, 21)  # and one for the size, where it is native
    assert torch.equal(first.examples, again.examples)
    assert entry_file("images.npy").exists()


def test_large_sets_stay_memory_mapped_and_equal(tmp_path, paint, monkeypatch):
    paint(tmp_path / "set", 30)
    small = open_dataset(str(tmp_path / "set"), split="all")
    monkeypatch.setattr(cache, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("genctl.data.rough.ROUGH_IN_MEMORY_BYTES", 0)
    assert isinstance(cache.load(cache.cache_info()["entries"][0]["key"])[0], np.memmap)
    cache.clear_cache()
    large = open_dataset(str(tmp_path / "set"), split="all")
    assert torch.equal(small.examples, large.examples)
    assert not [path for path in cache.cache_folder().iterdir() if path.name.startswith(".tmp")]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, paint, monkeypatch):
    paint(tmp_path / "set", 20)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "file"))
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert len(dataset) == 20
    assert any("cannot be written" in text for text in dataset.warnings)


def test_a_full_disk_is_a_warning_and_leaves_nothing(tmp_path, paint, monkeypatch):
    paint(tmp_path / "set", 20)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert len(dataset) == 20
    assert any("No space left" in text for text in dataset.warnings)
    assert cache.cache_info()["entries"] == []
    assert not list(cache.cache_folder().glob(".tmp*"))


def test_the_least_recently_used_entries_go(tmp_path, paint, monkeypatch):
    for k in range(3):
        paint(tmp_path / str(k), 20, size=(32, 32), seed=k)
    for k in range(2):
        open_dataset(str(tmp_path / str(k)))
        time.sleep(0.02)
    old, new = (entry["key"] for entry in reversed(cache.cache_info()["entries"]))
    open_dataset(str(tmp_path / "0"))  # used again: now the other one is the oldest
    one = cache.cache_info()["bytes"] / 2
    monkeypatch.setenv("GENCTL_CACHE_GIB", str(2.5 * one / 2**30))
    time.sleep(0.02)
    open_dataset(str(tmp_path / "2"))
    info = cache.cache_info()
    kept = {entry["key"] for entry in info["entries"]}
    assert len(kept) == 2
    assert old in kept
    assert new not in kept
    assert info["bytes"] <= info["limit_bytes"]
    assert cache.clear_cache() == info["bytes"]
    assert cache.cache_info()["entries"] == []


def test_broken_files_are_remembered(tmp_path, paint, decodes):
    paint(tmp_path / "set", 40)
    (tmp_path / "set" / "x.png").write_text("text")
    first = open_dataset(str(tmp_path / "set"), size=8)
    again = open_dataset(str(tmp_path / "set"), size=8)
    assert len(decodes) == 41
    assert first.broken == again.broken == [("x.png", "not an image: it holds text")]
    with pytest.raises(DataError):
        open_dataset(str(tmp_path / "set"), size=8, strict=True)


def test_labels_and_captions_follow_their_files_without_decoding(tmp_path, paint, decodes):
    paint(tmp_path / "set", 20)
    open_dataset(str(tmp_path / "set"), size=8)
    rows = "".join(f"{i:05d}.png,{i % 2}\n" for i in range(20))
    (tmp_path / "set" / "metadata.csv").write_text(f"file_name,label\n{rows}")
    dataset = open_dataset(str(tmp_path / "set"), size=8, split="all")
    assert len(decodes) == 20
    for name, label in zip(dataset.names, dataset.labels.tolist(), strict=True):
        assert int(name[:5]) % 2 == label


def test_two_processes_build_one_entry(tmp_path, paint, cache_root):
    paint(tmp_path / "set", 60)
    code = (
        "from genctl.data import build; build.CACHE_FROM_FILES = 1\n"
        "from genctl.data.dataset import open_dataset\n"
        f"print(open_dataset({str(tmp_path / 'set')!r}).fingerprint)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    prints = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert prints == {open_dataset(str(tmp_path / "set")).fingerprint}
    assert len(cache.cache_info()["entries"]) == 1


def test_what_a_killed_builder_left_is_removed(tmp_path, paint):
    paint(tmp_path / "set", 20)
    open_dataset(str(tmp_path / "set"))
    key = cache.cache_info()["entries"][0]["key"]
    cache.clear_cache()
    (cache.cache_folder() / f".tmp-{key}-build").mkdir()
    (cache.cache_folder() / f".tmp-{key}-dead").mkdir()
    open_dataset(str(tmp_path / "set"))
    assert not list(cache.cache_folder().glob(".tmp*"))
