"""Small files decoded by other processes: the same rows, and nothing left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genctl.data import build, decoders, decoding
from genctl.data.archives import open_archive
from genctl.data.dataset import open_dataset
from genctl.data.decode import LARGE_PIXELS
from genctl.data.decoder_program import LARGE_FILE, Job
from genctl.data.decoders import Decoders
from genctl.data.folder import FolderSource
from genctl.errors import DataError, GenctlError


@pytest.fixture
def files(tmp_path):
    """Grey, coloured, animated, broken, and two that are left to the process that asks."""
    folder = tmp_path / "files"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(150):
        shape = (12, 12) if i % 3 else (12, 12, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i:03d}.png")
    frames = [Image.new("L", (12, 12), 60 * i) for i in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    edge = int(LARGE_PIXELS**0.5) + 1
    Image.new("1", (edge, edge)).save(folder / "wide.png")
    noise = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "heavy.png")
    assert (folder / "wide.png").stat().st_size < LARGE_FILE < (folder / "heavy.png").stat().st_size
    return folder


def source_of(kind, files):
    place = files.with_suffix(f".{kind}")
    if kind == "folder":
        return FolderSource(files)
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for file in sorted(files.iterdir()):
                archive.write(file, file.name)
    else:
        with tarfile.open(place, "w") as archive:
            for file in sorted(files.iterdir()):
                archive.add(file, file.name)
    return open_archive(place)


def rows_of(source, how, transform, count=2):
    listing = source.listing()
    size = (transform.edge,) * 2 if transform.edge else (12, 12)
    decoding_ = decoding._Decoding(source, listing, transform, decoding.Rough(listing, size, None))
    tasks = decoding._tasks(source, listing)
    done = {
        "here": lambda: map(decoding_.here, tasks),
        "threads": lambda: decoding_.by_threads(tasks),
        "processes": lambda: decoding_.by_processes(count),
    }[how]()
    assert sum(done) == len(listing.names)
    return decoding_.rough


@pytest.mark.parametrize("size", [8, "native"])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_processes_find_what_threads_find(kind, size, files):
    source, transform = source_of(kind, files), decoding.Transform(size, "centre")
    found = {how: rows_of(source, how, transform) for how in ("here", "threads", "processes")}
    alone = found.pop("here")
    assert len(alone._usable) == 154
    for rough in found.values():
        for name in ("_usable", "_hashes", "_sizes", "_grey", "_animated"):
            assert np.array_equal(getattr(rough, name), getattr(alone, name)), name
        assert rough.broken == alone.broken
        kept = [r.in_memory(lambda names: None)[0] for r in (rough, alone)]
        assert np.array_equal(*kept)
        assert kept[0].std() > 20
    assert alone._animated.sum() == 1
    assert list(alone.broken.values()) == ["Truncated File Read"]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_many_small_files_are_decoded_so(kind, files, monkeypatch, tmp_path):
    started = []
    real = decoding.Decoders
    monkeypatch.setattr(decoding, "Decoders", lambda n, job: started.append(n) or real(n, job))
    monkeypatch.setattr(decoding, "_cores", lambda: 4)
    source_of(kind, files)
    spec = str(files) if kind == "folder" else str(files.with_suffix(f".{kind}"))
    before = open_dataset(spec, size=8)
    assert started == [], "these are too few"
    monkeypatch.setattr(decoding, "WORTH_A_PROCESS", 70)
    monkeypatch.setattr(build, "CACHE_FROM_FILES", 1)  # so that the disk takes part
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))
    after = open_dataset(spec, size=8)
    assert started == [2]
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.examples.numpy(), before.examples.numpy())
    monkeypatch.setattr(decoding, "FOR_PROCESSES", 100)
    open_dataset(spec, size=16)
    assert started == [2], "larger files are for threads"


def job_of(files, rows):
    return Job(str(files), 8, "centre", (3, 8, 8), rows)


def test_a_file_that_crashes_a_process_is_an_error_that_tells_where_it_is(files, tmp_path):
    with (tmp_path / "rows").open("w+b") as rows, Decoders(1, job_of(files, rows.fileno())) as one:
        one.take([(0, "000.png")])
        assert len(list(one.rest())) == 1
        [process] = one.processes.values()
        process.send_signal(signal.SIGSTOP)
        one.take([(0, "000.png"), (1, "001.png")])
        process.send_signal(signal.SIGSEGV)
        process.send_signal(signal.SIGCONT)
        with pytest.raises(GenctlError, match=r"among the files from 000\.png to 001\.png, by sig"):
            list(one.rest())
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_process_that_is_killed_is_not_missed(files, tmp_path):
    """What is short of memory kills something, and signals to all are for who asked."""
    with (tmp_path / "rows").open("w+b") as rows, Decoders(1, job_of(files, rows.fileno())) as one:
        one.take([(0, "000.png")])
        assert len(list(one.rest())) == 1
        [process] = one.processes.values()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
        one.take([(1, "001.png")])
        [(_, answers)] = one.rest()
        assert answers[0] is not None
        process.send_signal(signal.SIGSTOP)
        one.take([(2, "002.png")])
        one.take([(3, "003.png")])
        process.kill()
        assert list(one.rest()) == [([(2, "002.png")], [None]), ([(3, "003.png")], [None])]
        assert one.busy


def test_a_process_that_never_came_to_work_leaves_it_to_others(files, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "_PROGRAM", "raise SystemExit(1)")
    with (tmp_path / "rows").open("w+b") as rows, Decoders(2, job_of(files, rows.fileno())) as two:
        for i in range(3):
            two.take([(i, f"{i:03d}.png")])
        assert sorted(items[0][0] for items, answers in two.rest() if answers == [None]) == [
            0,
            1,
            2,
        ]
        assert two.busy, "for ever"
    whole = rows_of(FolderSource(files), "processes", decoding.Transform(8, "centre"))
    assert whole._usable.sum() == 153


def test_where_no_process_can_be_started_none_is(files, monkeypatch):
    def refuse(*words, **more):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    whole = rows_of(FolderSource(files), "processes", decoding.Transform(8, "centre"))
    assert whole._usable.sum() == 153


def test_a_row_that_does_not_fit_is_an_error_of_the_system(files):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 - closed below
    with full, Decoders(1, job_of(files, full.fileno())) as one:
        one.take([(0, "000.png")])
        with pytest.raises(OSError, match="No space"):
            list(one.rest())


def test_a_name_that_leads_nowhere_is_a_reason(files, tmp_path):
    with (tmp_path / "rows").open("w+b") as rows, Decoders(1, job_of(files, rows.fileno())) as one:
        one.take([(0, "gone.png"), (1, "001.png")])
        [(items, answers)] = list(one.rest())
    assert items == [(0, "gone.png"), (1, "001.png")]
    assert answers[0] == "No such file or directory"
    assert answers[1].size == (12, 12)
    assert (tmp_path / "rows").stat().st_size == 2 * 3 * 8 * 8


def test_a_portion_goes_to_who_has_least_to_do(files, tmp_path):
    with (tmp_path / "rows").open("w+b") as rows, Decoders(2, job_of(files, rows.fileno())) as two:
        for i in range(4):
            assert not two.busy
            two.take([(i, f"{i:03d}.png")])
        assert two.busy
        assert [len(portions) for portions in two.asked.values()] == [2, 2]
        assert sorted(items[0][0] for items, _ in two.rest()) == [0, 1, 2, 3]
        assert not two.busy


SCRIPT = """
print("begins")
from unittest import mock
from genctl.data import decoding
from genctl.data.dataset import open_dataset
with mock.patch.multiple(decoding, WORTH_A_PROCESS=10, _cores=lambda: 3):
    print(len(open_dataset({folder!r}, size=8, split="all")))
"""


def test_a_script_without_a_main_guard_runs_once(files, tmp_path):
    """And what lies in the folder that it is run from is not imported by the processes."""
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere/script.py"
    script.write_text(SCRIPT.format(folder=str(files)))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.split() == ["begins", "153"]


def test_too_much_broken_is_refused_as_ever(files, monkeypatch):
    monkeypatch.setattr(decoding, "WORTH_A_PROCESS", 10)
    monkeypatch.setattr(decoding, "_cores", lambda: 3)
    for i in range(20):
        (files / f"{i:03d}.png").write_text("no picture")
    with pytest.raises(DataError, match="21 of 154 image files are broken"):
        open_dataset(str(files), size=8)
