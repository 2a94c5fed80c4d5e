"""Files on their way through the threads: on all cores, within a bound of bytes, in one pass."""

import tarfile
import threading
import time
import zipfile

import pytest

from genctl.data import archives, decoding
from genctl.data.dataset import open_dataset
from genctl.data.in_flight import InFlight
from genctl.errors import DataError


def pack(folder, path):
    files = sorted(folder.iterdir())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as out:
            for file in files:
                out.write(file, file.name)
    else:
        with tarfile.open(path, "w") as out:
            for file in files:
                out.add(file, file.name)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_the_first_epoch_decodes_on_all_cores(kind, tmp_path, paint, monkeypatch):
    """Four threads meet in the middle of a file, which they can only if all four decode."""
    paint(tmp_path / "set", 4 * decoding._CHUNK, size=(32, 32))
    spec = tmp_path / "set" if kind == "folder" else pack(tmp_path / "set", tmp_path / f"x.{kind}")
    meeting = threading.Barrier(4, timeout=20)
    original = decoding.decode

    def met(*arguments):
        meeting.wait()
        return original(*arguments)

    monkeypatch.setattr(decoding, "decode", met)
    monkeypatch.setattr(decoding, "_cores", lambda: 4)
    assert len(open_dataset(str(spec), size=8, split="all")) == 4 * decoding._CHUNK
    assert not meeting.broken


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_files_in_flight_are_bounded_by_their_bytes(kind, tmp_path, paint, monkeypatch):
    paint(tmp_path / "set", 40, size=(32, 32))
    spec = tmp_path / "set" if kind == "folder" else pack(tmp_path / "set", tmp_path / f"x.{kind}")
    largest = max(path.stat().st_size for path in (tmp_path / "set").iterdir())
    held, most = [], [0]
    original = decoding.decode

    def watched(data, *more):
        held.append(len(data))
        most[0] = max(most[0], sum(held))
        time.sleep(0.002)
        held.remove(len(data))
        return original(data, *more)

    monkeypatch.setattr(decoding, "decode", watched)
    monkeypatch.setattr(decoding, "_cores", lambda: 8)
    monkeypatch.setattr(decoding, "IN_FLIGHT_BYTES", 2 * largest)
    assert len(open_dataset(str(spec), size=8, split="all")) == 40
    assert most[0] <= 2 * largest
    monkeypatch.setattr(decoding, "IN_FLIGHT_BYTES", 1)  # each is larger and passes alone
    most[0] = 0
    assert len(open_dataset(str(spec), size=4, split="all")) == 40
    assert most[0] <= largest


def test_what_is_larger_than_the_bound_passes_alone():
    flight = InFlight(10)
    flight.take(100)
    waiting = threading.Thread(target=flight.take, args=(1,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    flight.give_back(100)
    waiting.join(5)
    assert flight.held == 1


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_size_of_a_set_is_found_in_one_pass(kind, tmp_path, paint, monkeypatch):
    """Broken members come first; a tar has no index and would be read anew for each."""
    paint(tmp_path / "set", 400)
    for i in range(15):
        (tmp_path / "set" / f"{i:05d}.png").write_text("no picture")
    path = pack(tmp_path / "set", tmp_path / f"x.{kind}")
    opened = []
    original = archives.open_tar
    monkeypatch.setattr(archives, "open_tar", lambda *a: (opened.append(1), original(*a))[1])
    dataset = open_dataset(str(path), split="all")
    assert dataset.spec.shape == (3, 8, 8)
    assert len(dataset.broken) == 15
    assert len(opened) == (4 if kind == "tar" else 0)  # its kind, its names, its size, its rows


def test_a_set_of_broken_files_has_no_size(tmp_path, paint, monkeypatch):
    (tmp_path / "set").mkdir()
    for i in range(300):
        (tmp_path / "set" / f"{i:03d}.png").write_text("no picture")
    seen = []
    original = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *a: (seen.append(1), original(*a))[1])
    for spec in (tmp_path / "set", pack(tmp_path / "set", tmp_path / "x.tar")):
        seen.clear()
        with pytest.raises(DataError, match="16 of 300 image files are broken"):
            open_dataset(str(spec), split="all")
        assert len(seen) == 16
