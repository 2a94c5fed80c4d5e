import math
import os
import resource
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from genctl.data import build, cache, decoding, rough
from genctl.data.cache import Index
from genctl.data.dataset import _rows, open_dataset
from genctl.data.loader import Loader
from genctl.errors import DataError


@pytest.fixture(autouse=True)
def cache_everything(monkeypatch):
    monkeypatch.setattr(build, "CACHE_FROM_FILES", 1)


@pytest.fixture
def decodes(monkeypatch):
    """Counts the files decoded."""
    seen = []
    monkeypatch.setattr(decoding, "decode", lambda *a: (seen.append(1), REAL(*a))[1])
    return seen


REAL = decoding.decode


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


@pytest.mark.parametrize("how", ["byte", "cut", "index", "gone", "shape", "rows", "names"])
def test_a_damaged_entry_is_found_and_rebuilt(tmp_path, paint, decodes, how):
    paint(tmp_path / "set", 20)
    first = open_dataset(str(tmp_path / "set")).examples.clone()  # not the map of what is damaged
    files = {"index": "index.json", "shape": "index.json", "rows": "rows.npz", "names": "rows.npz"}
    path = entry_file(files.get(how, "images.npy"))
    raw = bytearray(path.read_bytes())
    if how == "byte":
        raw[-3] ^= 1
    elif how == "cut":
        raw = raw[:-10]
    elif how == "shape":
        raw = raw.replace(b'"shape": [20,', b'"shape": [21,')
    elif how == "names":
        raw = raw.replace(b"00007.png", b"00008.png")
    else:
        raw = raw[: len(raw) // 2]
    path.unlink() if how == "gone" else path.write_bytes(raw)
    before = len(decodes)
    again = open_dataset(str(tmp_path / "set"))
    assert len(decodes) - before in (20, 21)  # and one for the size, where it is native
    assert torch.equal(first, again.examples)
    assert entry_file("images.npy").exists()


def in_a_map(tensor):
    """Whether a tensor's memory is a map of a file of the cache."""
    place, found = tensor.data_ptr(), []
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, _, end = line.split(" ", 1)[0].partition("-")
            if int(start, 16) <= place < int(end, 16):
                found.append(line)
    return any("images.npy" in line for line in found)


on_linux = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")


@on_linux
@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_cached_examples_are_a_map_that_all_processes_share(tmp_path, paint, split):
    paint(tmp_path / "set", 60)
    dataset = open_dataset(str(tmp_path / "set"), split=split, holdout=0.3)
    assert in_a_map(dataset.examples)
    assert not in_a_map(dataset.examples.clone())
    before = entry_file("images.npy").read_bytes()
    dataset.examples.zero_()  # a copy, of this process alone
    assert entry_file("images.npy").read_bytes() == before
    assert next(Loader(dataset, batch_size=4, seed=0)).x.eq(-1).all()


def test_a_set_built_through_the_scratch_file_is_equal(tmp_path, paint, monkeypatch):
    paint(tmp_path / "set", 30)
    paint(tmp_path / "set" / "grey", 10, grey=True, seed=1)
    small = open_dataset(str(tmp_path / "set"), split="all")
    cache.clear_cache()
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(rough, "_BLOCK_BYTES", 7 * 192)
    large = open_dataset(str(tmp_path / "set"), split="all")
    assert torch.equal(small.examples, large.examples)
    assert (small.names, small.fingerprint) == (large.names, large.fingerprint)
    assert not [path for path in cache.cache_folder().iterdir() if path.name.startswith(".tmp")]


@on_linux
@pytest.mark.parametrize("every", [1, 2])
def test_a_set_larger_than_memory_streams(every):
    """All of it or every second row, as where labels are left out. Of a file of zeros that takes no room on the disk; only what is touched comes in."""
    row = (3, 4096, 4096)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/meminfo") as facts:
        total += 1024 * sum(int(line.split()[1]) for line in facts if line.startswith("SwapTotal"))
    n = int(2.4 * total) // math.prod(row)
    folder = cache.cache_folder() / "0123"
    folder.mkdir(parents=True)
    with open(folder / "images.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, *row)}
        np.lib.format.write_array_header_1_0(file, header)
        size = file.tell() + n * math.prod(row)
        file.truncate(size)
    with open(folder / "images.npy", "rb") as file:
        head = zlib.crc32(file.read(2**20))
    blocks, rest = divmod(size, 2**20)
    sums = [head] + [zlib.crc32(bytes(2**20))] * (blocks - 1) + [zlib.crc32(bytes(rest))]
    index = Index([str(i) for i in range(n)], np.zeros((n, cache.HASH_BYTES), np.uint8))
    cache._write_index(folder, index, {"shape": [n, *row], "checksums": sums})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images, _ = cache.load("0123")
    assert images.nbytes > total
    examples = _rows(images, np.arange(0, n, every))
    last = len(examples) - 1
    assert examples.nbytes > total
    assert not examples.index_select(0, torch.tensor([0, last // 2, last])).any()
    assert not examples[last].any()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert 1024 * grown < 12 * math.prod(row)


@on_linux
def test_building_takes_no_more_memory_for_a_larger_set(tmp_path):
    """150 MB of pixels, from flat pictures that decode at once."""
    (tmp_path / "set").mkdir()
    for k in range(200):
        Image.new("RGB", (500, 500), (k, 255 - k, 7)).save(tmp_path / "set" / f"{k}.bmp")
    code = f"""
import resource
from pathlib import Path
from genctl.data import build, decoding, rough
from genctl.data.folder import FolderSource
build.CACHE_FROM_FILES = 1
rough.ROUGH_IN_MEMORY_BYTES = rough._BLOCK_BYTES = 10 * 2**20
source = FolderSource(Path({str(tmp_path / "set")!r}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images, index, _ = build.decoded_files(
    source, source.listing(), decoding.Transform("native", "none"), "set", is_test=lambda names: None
)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(images.nbytes, 1024 * grown)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size, grown = map(int, done.stdout.split())
    assert size == 200 * 500 * 500 * 3
    assert grown < 0.5 * size


def test_a_million_rows_open_in_less_than_two_seconds():
    n = 1_000_000
    names = [f"{k % 1000:03d}/{k:07d}.png" for k in range(n)]
    hashes = np.random.default_rng(0).integers(0, 256, (n, cache.HASH_BYTES), dtype=np.uint8)
    cache.store(
        "0123", iter([np.zeros((n, 1, 2, 2), np.uint8)]), (n, 1, 2, 2), Index(names, hashes)
    )
    start = time.process_time()
    images, index = cache.load("0123")
    assert time.process_time() - start < 2
    assert len(images) == n
    assert index.names == names
    assert np.array_equal(index.hashes, hashes)


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


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path, paint, cache_root):
    paint(tmp_path / "set", 60)
    code = f"""
import time
from pathlib import Path
from genctl.data import build, decoding
from genctl.data.folder import FolderSource
build.CACHE_FROM_FILES = 1
decode, seen = decoding.decode, []
def slow(*a):
    seen.append(time.sleep(0.02))
    return decode(*a)
decoding.decode = slow
source = FolderSource(Path({str(tmp_path / "set")!r}))
input()
_, index, _ = build.decoded_files(
    source, source.listing(), decoding.Transform(8, "none"), "set", is_test=lambda names: None
)
print(index.hashes.tobytes().hex(), len(seen))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in running:  # both have imported everything before either opens the folder
        process.stdin.write("\n")
    found = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert len({hashes for hashes, _ in found}) == 1
    assert sorted(int(decoded) for _, decoded in found) == [0, 60]
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
