"""Small files decoded by other processes: the same rows, and nothing left behind however it ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from genctl.data import build, decoders, decoding, rough
from genctl.data.dataset import open_dataset
from genctl.data.decode import LARGE_PIXELS
from genctl.data.decoder_program import LARGE_FILE, Job
from genctl.data.decoders import Decoders, is_python
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


class Awaited(Decoders):
    """All are ready before the work begins, which with a few files would be done by then."""

    helped = 0

    def __enter__(self):
        super().__enter__()
        while self.processes and len(self.asked) < self._count:
            assert list(self.answered(10)) == []
        return self

    def take(self, items):
        type(self).helped += 1
        super().take(items)


def rows_of(folder, how, transform, count=2):
    source = FolderSource(folder)
    listing = source.listing()
    size = (transform.edge,) * 2 if transform.edge else (12, 12)
    work = decoding._Decoding(source, listing, transform, decoding.Rough(listing, size, None))
    done = {
        "here": lambda: map(work.here, work._portions()),
        "threads": lambda: work.by_threads(work._portions()),
        "processes": lambda: work.by_processes(count),
    }[how]()
    assert sum(done) == len(listing.names)
    return work.rough


@pytest.mark.parametrize("size", [8, "native"])
def test_processes_find_what_threads_find(size, files, monkeypatch):
    monkeypatch.setattr(decoding, "Decoders", Awaited)
    monkeypatch.setattr(Awaited, "helped", 0)
    transform = decoding.Transform(size, "centre")
    found = {how: rows_of(files, how, transform) for how in ("here", "threads", "processes")}
    assert Awaited.helped >= 4
    alone = found.pop("here")
    assert len(alone._usable) == 154
    for other in found.values():
        for name in ("_usable", "_hashes", "_sizes", "_grey", "_animated"):
            assert np.array_equal(getattr(other, name), getattr(alone, name)), name
        assert other.broken == alone.broken
        kept = [r.in_memory(lambda names: None)[0] for r in (other, alone)]
        assert np.array_equal(*kept)
        assert kept[0].std() > 20
    assert alone._animated.sum() == 1
    assert list(alone.broken.values()) == ["Truncated File Read"]


def test_many_small_files_are_decoded_so(files, monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(decoding, "Decoders", lambda n, *a: started.append(n) or Awaited(n, *a))
    monkeypatch.setattr(decoding, "_cores", lambda: 4)
    before = open_dataset(str(files), size=8)
    assert started == [], "these are too few"
    monkeypatch.setattr(decoding, "WORTH_A_PROCESS", 70)
    assert np.array_equal(open_dataset(str(files), size=8).examples, before.examples)
    monkeypatch.setattr(build, "CACHE_FROM_FILES", 1)
    monkeypatch.setattr(rough, "ROUGH_IN_MEMORY_BYTES", 0)  # so that the disk takes part
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))
    after = open_dataset(str(files), size=8)
    assert started == [2, 2]
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.examples, before.examples)
    monkeypatch.setattr(decoding, "FOR_PROCESSES", 100)
    open_dataset(str(files), size=16)
    assert started == [2, 2], "larger files are for threads"


def test_rows_that_no_file_can_hold_are_for_threads(files, monkeypatch):
    def refuse(*words):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    before = open_dataset(str(files), size=8)
    monkeypatch.setattr(decoding, "WORTH_A_PROCESS", 70)
    for name in ("memfd_create", "ftruncate"):
        with monkeypatch.context() as here:
            here.setattr(os, name, refuse)
            here.setattr(decoding, "Decoders", None)
            assert np.array_equal(open_dataset(str(files), size=8).examples, before.examples)


@contextmanager
def decoders_of(files, count, place):
    """Decoders that are all ready, and the file that they write rows of 8 x 8 to."""
    job = Job(files, 8, "centre", (3, 8, 8))
    with place.open("w+b") as rows, Awaited(count, job, rows.fileno()) as found:
        yield found


def test_a_file_that_crashes_a_process_is_an_error_that_tells_where_it_is(files, tmp_path):
    with decoders_of(files, 1, tmp_path / "rows") as one:
        [process] = one.processes.values()
        process.send_signal(signal.SIGSTOP)
        one.take([(0, "000.png"), (1, "001.png")])
        process.send_signal(signal.SIGSEGV)
        process.send_signal(signal.SIGCONT)
        with pytest.raises(GenctlError, match=r"a file from 000\.png to 001\.png crashed"):
            list(one.rest())
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_process_that_is_killed_is_not_missed(files, tmp_path):
    """What is short of memory kills something, and signals to all are for who asked."""
    with decoders_of(files, 1, tmp_path / "rows") as one:
        [process] = one.processes.values()
        assert os.getpgid(process.pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
        one.take([(1, "001.png")])
        [(_, answers)] = one.rest()
        assert answers[0].size == (12, 12)
        process.send_signal(signal.SIGSTOP)
        one.take([(2, "002.png")])
        one.take([(3, "003.png")])
        process.kill()
        assert list(one.rest()) == [([(2, "002.png")], [None]), ([(3, "003.png")], [None])]
        assert one.busy


def test_the_end_of_a_process_is_seen_though_another_holds_its_connection(
    files, tmp_path, monkeypatch
):
    """A fork of another thread, between making the connection and closing its other end."""
    held = []
    real = decoders.Pipe

    def pipe():
        ours, its = real()
        held.append(os.dup(its.fileno()))
        return ours, its

    monkeypatch.setattr(decoders, "Pipe", pipe)
    monkeypatch.setattr(decoders, "PATIENCE", 0.05)
    with decoders_of(files, 1, tmp_path / "rows") as one:
        [process] = one.processes.values()
        process.send_signal(signal.SIGSTOP)
        one.take([(2, "002.png")])
        process.kill()
        assert list(one.rest()) == [([(2, "002.png")], [None])]
    os.close(held[0])


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "import time; time.sleep(600)"])
def test_a_process_that_never_comes_to_work_gets_none(program, files, monkeypatch):
    monkeypatch.setattr(decoders, "_PROGRAM", program)
    assert rows_of(files, "processes", decoding.Transform(8, "centre"))._usable.sum() == 153


def test_where_no_process_can_be_started_none_is(files, monkeypatch):
    def refuse(*words, **more):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert rows_of(files, "processes", decoding.Transform(8, "centre"))._usable.sum() == 153
    assert before in (0, len(os.listdir("/proc/self/fd")))


def test_only_an_interpreter_is_started(monkeypatch):
    assert is_python(sys.executable)
    assert is_python("/opt/bin/PyPy3")
    assert not any(map(is_python, ("/opt/bin/application", "", None)))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not is_python(sys.executable)


def test_a_row_that_does_not_fit_is_an_error_of_the_system(files):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with decoders_of(files, 1, Path("/dev/full")) as one:
        one.take([(0, "000.png")])
        with pytest.raises(OSError, match="No space"):
            list(one.rest())


def test_what_is_no_picture_there_is_left(files, tmp_path):
    """A script may have taught Pillow, of its own process, to bear with it."""
    with decoders_of(files, 1, tmp_path / "rows") as one:
        one.take([(0, "gone.png"), (1, "001.png"), (2, "broken.png")])
        [(items, answers)] = list(one.rest())
    assert [name for _, name in items] == ["gone.png", "001.png", "broken.png"]
    assert answers[0] is answers[2] is None
    assert answers[1].size == (12, 12)
    assert (tmp_path / "rows").stat().st_size == 2 * 3 * 8 * 8


def test_pillow_may_be_told_to_bear_with_torn_files(files, monkeypatch):
    for i in range(20):
        path = files / f"{i:03d}.png"
        path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(decoding, "Decoders", Awaited)
    found = {
        how: rows_of(files, how, decoding.Transform(8, "centre")) for how in ("here", "processes")
    }
    assert len(found["here"].broken) == len(found["processes"].broken) == 1
    images = [rows.in_memory(lambda names: None)[0] for rows in found.values()]
    assert np.array_equal(*images)


def test_a_portion_goes_to_who_has_least_to_do(files, tmp_path):
    with decoders_of(files, 2, tmp_path / "rows") as two:
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
from genctl.data.decoders import Decoders
class Awaited(Decoders):
    def __enter__(self):
        super().__enter__()
        while self.processes and len(self.asked) < self._count:
            list(self.answered(10))
        return self
decoding.Decoders = Awaited
with mock.patch.multiple(decoding, WORTH_A_PROCESS=10, _cores=lambda: 3):
    images = open_dataset({folder!r}, size=8, split="all").examples
    print(len(images), len(images.flatten(1).any(1).nonzero()), file=open({out!r}, "w"))
"""


@pytest.mark.parametrize("streams", ["", "<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_script_without_a_main_guard_runs_once(streams, files, tmp_path):
    """What lies in the folder that it is run from is not imported by the processes.

    And with closed streams the rows' file has the number of one, which a process gets anew.
    """
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    (tmp_path / "elsewhere").mkdir()
    script, out = tmp_path / "elsewhere/script.py", tmp_path / "out"
    script.write_text(SCRIPT.format(folder=str(files), out=str(out)))
    command = f"{sys.executable} {script} {streams}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_text().split() == ["153", "151"], "two pictures are all black"
    assert done.stdout == ("" if ">&-" in streams else "begins\n")


def test_too_much_broken_is_refused_as_ever(files, monkeypatch):
    monkeypatch.setattr(decoding, "WORTH_A_PROCESS", 10)
    monkeypatch.setattr(decoding, "_cores", lambda: 3)
    for i in range(20):
        (files / f"{i:03d}.png").write_text("no picture")
    with pytest.raises(DataError, match="21 of 154 image files are broken"):
        open_dataset(str(files), size=8)
