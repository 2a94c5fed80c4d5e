"""Bombs and absurd headers: memory grows with what is there, not with what is promised.

Each case runs in a forked child whose address space is limited, and reports the most memory it held.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import os
import re
import resource
import shutil
import struct
import sys
import tarfile
import time
import traceback
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from genctl.cli.main import main
from genctl.config.load import load_config, read_yaml, to_yaml, with_overrides
from genctl.data import decode as decoder
from genctl.data import decoding
from genctl.data.arrays import read_idx, read_npz
from genctl.data.dataset import open_dataset
from genctl.data.decode import BrokenImageError, decode
from genctl.data.labels import name_facts
from genctl.engine import checkpoint
from genctl.engine.fit import fit
from genctl.engine.run import open_run
from genctl.errors import GenctlError
from genctl.report.curves import read_curves
from genctl.report.diagnosis import diagnose

STORED = Path(__file__).parent.parent / "fixtures" / "run-schema-1"
STEP = STORED / "checkpoints" / "step-00000025"
MIB = 2**20
ROOM = 4096 * MIB
"""Address space beyond what the tests hold already: a bomb must fail here, not take the machine."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured in /proc")


def status(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


def spent(function, *arguments) -> tuple[str, int]:
    """The answer of a call in a forked child, ``error: …`` or ``bug: …``; and the bytes it added."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + ROOM,) * 2)
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
            before = status("VmRSS")
            try:
                answer = str(function(*arguments))
            except (GenctlError, BrokenImageError) as error:
                answer = f"error: {error}"
            except BaseException:  # noqa: BLE001 - a child must answer whatever happens
                answer = f"bug: {traceback.format_exc()}"
            report = json.dumps([answer[:2000], status("VmHWM") - before])
            os.write(writer, report.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        deadline = time.monotonic() + 60
        report = b""
        while time.monotonic() < deadline and (part := pipe.read(65536)):
            report += part
    os.waitpid(child, 0)
    answer, added = json.loads(report or b'["bug: no answer", 0]')
    return answer, added


def bounded(function, *arguments, most=200, says=""):
    answer, added = spent(function, *arguments)
    assert not answer.startswith("bug"), answer
    assert added < most * MIB, f"{added / MIB:.0f} MiB: {answer}"
    assert re.search(says, answer), answer
    return answer


def opened(path, size=8):
    return len(open_dataset(str(path), split="all", size=size))


def png(size=(8, 8), shade=0, **more) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(out, "PNG", **more)
    return out.getvalue()


@functools.cache
def zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 1)


def test_the_measure_measures():
    """Otherwise none of the limits below says anything."""
    answer, added = spent(lambda: len(np.ones(300 * MIB, np.uint8)))
    assert answer == str(300 * MIB)
    assert added > 290 * MIB
    assert spent(lambda: np.ones(2 * ROOM, np.uint8))[0].startswith("bug: ")


# --- images ---------------------------------------------------------------------------------------
def claims(kind: str, edge: int) -> bytes:
    """A small picture whose header promises ``edge`` × ``edge`` pixels."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind)
    data = bytearray(out.getvalue())
    if kind == "PNG":
        data[16:24] = struct.pack(">II", edge, edge)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", edge, edge)
        at = data.index(b"\x2c\0\0\0\0\x10\0\x10\0")
        data[at + 5 : at + 9] = struct.pack("<HH", edge, edge)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", edge, edge)
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", edge, edge)
    elif kind == "TIFF":
        for tag in (256, 257):
            at = (
                data.index(struct.pack("<HH", tag, 3))
                if struct.pack("<HH", tag, 3) in data
                else data.index(struct.pack("<HH", tag, 4))
            )
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, edge)
    elif kind == "PPM":
        data = bytearray(f"P6 {edge} {edge} 255\n".encode())
    elif kind == "TGA":
        data[12:16] = struct.pack("<HH", edge, edge)
    elif kind == "JPEG2000":
        at = data.index(b"ihdr")
        data[at + 4 : at + 12] = struct.pack(">II", edge, edge)
        at = data.index(b"\xff\x51")
        data[at + 6 : at + 14] = struct.pack(">II", edge, edge)
        data[at + 22 : at + 30] = struct.pack(">II", edge, edge)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "JPEG", "TIFF", "PPM", "TGA", "JPEG2000"])
@pytest.mark.parametrize("edge", [3_000, 30_000, 65_000])
def test_images_that_promise_too_much(kind, edge):
    if edge > 9_000:
        bounded(
            decode, claims(kind, edge), 8, most=30, says="more than 80,000,000|cannot|truncated|too"
        )
    else:  # allowed, but the pixels are not there
        bounded(decode, claims(kind, edge), 8, most=250, says="error|Decoded")


def test_a_picture_in_an_icon_may_not_be_larger_than_its_entry():
    inner = claims("PNG", 12_000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    bounded(decode, struct.pack("<HHH", 0, 1, 1) + entry + inner, most=700, says="error")


@pytest.mark.parametrize("large", [True, False])
def test_large_images_are_decoded_one_at_a_time(large, monkeypatch):
    """With their copies they take up to 2 GB each, and a machine may have a hundred cores."""
    original, at_work, most = decoder._decoded, [], [0]

    def watched(*arguments):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        found = original(*arguments)
        at_work.pop()
        return found

    monkeypatch.setattr(decoder, "_decoded", watched)
    monkeypatch.setattr(decoder, "LARGE_PIXELS", 10 if large else 10**6)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(decode, [png()] * 8))) == 8
    assert (max(most) == 1) == large


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_in_a_picture_is_not_unpacked_without_end(kind):
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind] + zeros(80 * MIB)
    chunk = struct.pack(">I", len(head)) + kind + head + struct.pack(">I", zlib.crc32(kind + head))
    data = png()
    bounded(decode, data[:33] + chunk + data[33:], most=20)


def test_nor_are_many_texts():
    many = PngImagePlugin.PngInfo()
    for i in range(90):
        many.add_text(f"k{i}", "x" * 900_000, zip=True)
    bounded(decode, png(pnginfo=many), most=100, says="too large|too many|text")


def test_a_few_small_files_cannot_unpack_to_more_than_memory(tmp_path, monkeypatch):
    data = png((4000, 3000))
    for i in range(60):
        (tmp_path / f"{i}.png").write_bytes(data + bytes([i]))
    monkeypatch.setattr("genctl.data.rough.physical_memory", lambda: 4096 * MIB)
    bounded(
        opened,
        tmp_path,
        "native",
        most=600,
        says="60 images unpack to 2.0 GiB, more than the memory",
    )


# --- archives -------------------------------------------------------------------------------------
def zip_with(name: str, content: bytes, claimed: int | None = None, good: int = 1) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, content)
        for i in range(good):
            archive.writestr(f"{i}.png", png(shade=i))
    data = bytearray(out.getvalue())
    if claimed is not None:
        at = data.index(b"PK\x01\x02")
        data[at + 24 : at + 28] = struct.pack("<I", claimed)
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "claimed", "says"),
    [
        (b"x", 2**32 - 2, "over 1000 times its own size"),
        (bytes(60 * MIB), 1000, "^40$"),  # it is 60,000 times larger than it says: broken
        (bytes(60 * MIB), None, "^40$"),
    ],
)
def test_members_of_a_zip_that_lie_about_their_size(content, claimed, says, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(zip_with("big.png", content, claimed, good=40))
    bounded(opened, path, most=150, says=says)


def test_metadata_in_an_archive_is_bounded(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(zip_with("metadata.csv", bytes(130 * MIB)))
    bounded(opened, path, most=50, says="declares 136,314,880 bytes")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("metadata.jsonl")
        info.size = 130 * MIB
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    bounded(opened, tmp_path / "x.tar.gz", most=50, says="its metadata has 136,314,880 bytes")


def many_metadata(path: Path, count: int, size: int, png_too: bytes) -> Path:
    """A folder, zip or tar with one picture and ``count`` metadata files of spaces."""
    names = [f"d{i}/metadata.csv" for i in range(count)]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("a.png", png_too)
            for name in names:
                archive.writestr(name, b" " * size)
    elif path.suffix == ".gz":
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for name, content in [("a.png", png_too), *((name, b" " * size) for name in names)]:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name in names:
            (path / name).parent.mkdir(parents=True)
            (path / name).touch()
            os.truncate(path / name, size)  # takes no room on the disk
        (path / "a.png").write_bytes(png_too)
    return path


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x"])
def test_all_metadata_of_a_source_have_one_budget(name, tmp_path):
    """Each is within the bound of one; what was read before the refusal is within it too."""
    path = many_metadata(tmp_path / name, 8, 60 * MIB, png())
    total = "503,316,480" if name == "x.zip" else "188,743,680"
    bounded(opened, path, most=20 if name == "x.zip" else 260, says=f"{total} bytes")


def test_what_a_zip_declares_is_judged_before_anything_is_read(tmp_path):
    path = many_metadata(tmp_path / "x.zip", 1, 100 * MIB, png())
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)
    bounded(opened, path, most=20, says="over 1000 times its own size")


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_row_of_metadata_does_not_unpack_to_twenty_times_its_text(name):
    text = '{"file_name":"a","text":[' + "{}," * (5 * MIB) + "{}]}"
    if name == "metadata.csv":
        text = "file_name" + ",aa" * (5 * MIB)
    bounded(lambda: name_facts(["a"], [(name, text)], "x"), most=60, says="error.* line 1 has")
    rows = "".join(f'{{"file_name":"{i}","label":[{"{}," * 250_000}{{}}]}}\n' for i in range(20))
    names = [str(i) for i in range(20)]
    bounded(lambda: name_facts(names, [("m.jsonl", rows)], "x"), most=60, says="list or an object")


def test_the_number_of_cores_does_not_decide_the_memory(tmp_path, monkeypatch):
    """Members of 20 MiB that are read faster than they are decoded; one alone exceeds the bound."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i, size in enumerate([20 * MIB] * 24 + [80 * MIB]):
            info = tarfile.TarInfo(f"{i:02d}.png")
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))

    def slow(data, *more):
        time.sleep(0.3)
        raise BrokenImageError(f"seen {len(data):,}")

    monkeypatch.setattr(decoding, "decode", slow)
    monkeypatch.setattr(decoding, "_cores", lambda: 16)
    monkeypatch.setattr(decoding, "IN_FLIGHT_BYTES", 60 * MIB)
    bounded(opened, tmp_path / "x.tar", most=200, says="25 of 25 image files are broken")


def test_rows_of_metadata_are_not_kept_in_a_list():
    text = '{"file_name":"x"}\n' * 100_000
    bounded(lambda: name_facts(["a"], [("metadata.jsonl", text)], "x").labels, most=15)


def test_an_archive_in_an_archive_is_not_opened(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(zip_with("inner.zip", zip_with("deeper.zip", bytes(5 * MIB))))
    bounded(opened, path, most=50, says="^1$")


def block(name=b"x.png", size=b"00000000000", kind=b"0") -> bytes:
    head = bytearray(512)
    head[: len(name)] = name
    head[100:124] = b"0000644\0" + b"0000000\0" * 2
    head[124 : 124 + len(size)] = size
    head[148:156] = b" " * 8
    head[156:157] = kind
    head[257:265] = b"ustar\00000"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


ABSURD = {
    "size": (block(size=b"\x80" + b"\0" * 3 + b"\x40" + b"\0" * 7), "unpacks to more|ends in the middle"),
    "negative": (block(size=b"\xff" * 12), "no number"),
    "garbage": (block(size=b"9999999999z"), "no number"),
    "long name": (block(kind=b"L", size=b"77777777777") + bytes(1024), "a header of 8,589,934,591"),
    "link name": (block(kind=b"K", size=b"77777777777") + bytes(1024), "a header of 8,589,934,591"),
    "extended": (block(kind=b"x", size=b"77777777777") + bytes(1024), "a header of 8,589,934,591"),
    "pax size": (block(kind=b"x", size=b"00000000027") + b"23 size=99999999999999\n".ljust(512, b"\0") + block(), "unpacks to more|ends in"),
    "pax negative": (block(kind=b"x", size=b"00000000014") + b"12 size=-512\n".ljust(512, b"\0") + block(), "no number|damaged"),
    "names for ever": ((block(kind=b"L", size=b"00000001000") + b"x" * 512) * 500, "is empty|not an image|holds"),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(ABSURD))
def test_absurd_headers_in_a_tar(what, tmp_path):
    data, says = ABSURD[what]
    (tmp_path / "x.tar").write_bytes(data)
    bounded(opened, tmp_path / "x.tar", most=50, says=f"error: .*({says}|neither a zip nor a tar)")
    for ending, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (tmp_path / f"x.tar{ending}").write_bytes(pack(data))
        bounded(opened, tmp_path / f"x.tar{ending}", most=80, says="error")


def test_a_long_name_that_unpacks_to_gigabytes(tmp_path):
    """Not even a name that is really there, 100 MiB of it."""
    size = 100 * MIB
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as file:
        file.write(block(kind=b"L", size=b"%011o" % size))
        for _ in range(100):
            file.write(b"x" * MIB)
    bounded(opened, tmp_path / "x.tar.gz", most=30, says="error")


def test_very_many_members_leave_nothing_behind(tmp_path):
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as file:
        for _ in range(15):
            file.write(block(name=b"x.txt") * 1000)
    bounded(opened, tmp_path / "x.tar.gz", most=8, says="only 15,000 other files")


def test_an_xz_with_an_absurd_window(tmp_path):
    head = lzma.compress(block(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    at = 12
    length = (head[at] + 1) * 4
    field = bytearray(head[at : at + length])
    place = field.index(b"\x21\x01") + 2
    field[place] = 40  # 4 GiB
    field[-4:] = struct.pack("<I", zlib.crc32(field[:-4]))
    (tmp_path / "x.tar.xz").write_bytes(head[:at] + bytes(field) + head[at + length :])
    bounded(opened, tmp_path / "x.tar.xz", most=100, says="error")


# --- arrays ---------------------------------------------------------------------------------------
def npz_with(header: bytes, version=b"\x01\0", body=bytes(100), length=None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        form = "<H" if version == b"\x01\0" else "<I"
        start = (
            b"\x93NUMPY" + version + struct.pack(form, len(header) if length is None else length)
        )
        archive.writestr("images.npy", start + header + body)
    return out.getvalue()


def header(shape="(4, 5, 5, 1)", descr="'|u1'") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    "content",
    [
        npz_with(header("(1099511627776,)")),
        npz_with(header("(2147483648, 2, 1, 1)")),
        npz_with(header("(4294967296, 4294967296)")),
        npz_with(header("(-1, 5, 5, 1)")),
        npz_with(header("(1,) * 10**9")),
        npz_with(header("(" * 4000)),
        npz_with(header("[" * 90 + "]" * 90)),
        npz_with(header(descr="'|V1000000000'")),
        npz_with(header(descr="'<U500000000'")),
        npz_with(header(descr="'|O'")),
        npz_with(header(descr="[('a', '|O')]")),
        npz_with(b" " * 60_000),
        npz_with(header(), b"\x03\0"),
        npz_with(header(), b"\x02\0", length=2**32 - 1),
        npz_with(b" " * (200 * MIB), b"\x02\0"),
    ],
)
def test_arrays_that_promise_too_much(content, tmp_path):
    (tmp_path / "x.npz").write_bytes(content)
    bounded(read_npz, tmp_path / "x.npz", most=30, says="error")


def test_an_array_larger_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("genctl.data.arrays.physical_memory", lambda: 100 * MIB)
    (tmp_path / "x.npz").write_bytes(
        npz_with(header(f"({80 * MIB}, 1, 1, 1)"), body=bytes(80 * MIB))
    )
    bounded(read_npz, tmp_path / "x.npz", most=30, says="unpacks to 83,886,")


def test_labels_do_not_make_classes_without_end(tmp_path):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    for label in (2**62, 2**31, 65_536):
        np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, label]))
        bounded(opened, tmp_path / "x.npz", most=20, says="65,536 classes are the most")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(2**31, 28, 28), (2**31 - 1,), (2**32 - 1,) * 4])
def test_ubyte_files_that_promise_too_much(shape, zipped, tmp_path):
    data = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(100)
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(data) if zipped else data)
    bounded(read_idx, path, most=60, says="error: .*(declares|expected)")


# --- runs -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 2**63 - 8) + b"{}",
        struct.pack("<Q", 99 * MIB) + b"{",
        b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        b'{"w":{"dtype":"F32","shape":[0,9223372036854775807,8],"data_offsets":[0,0]}}',
        b'{"w":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,0]}}',
        b'{"w":{"dtype":"F8_E8M0","shape":[0],"data_offsets":[0,0]}}',
        b'{"w":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_safetensors_that_promise_too_much(content, tmp_path):
    data = struct.pack("<Q", len(content)) + content if content[:1] == b"{" else content
    (tmp_path / "x.safetensors").write_bytes(data)
    digest = checkpoint.hashlib.sha256(data).hexdigest()
    path = tmp_path / "x.safetensors"
    with path.open("rb") as file:
        bounded(checkpoint._tensors_of, path, file, digest, most=30, says="error|\\{")


def with_config(tmp_path, **changes):
    run = tmp_path / "run"
    shutil.copytree(STORED, run, symlinks=True)
    config = with_overrides(read_yaml(run / "config.yaml"), changes)
    (run / "config.yaml").write_text(to_yaml(config))
    return run, config


WIDE = {"model.generator.width": 12_000, "model.generator.depth": 4}


@pytest.mark.parametrize(
    "changes",
    [
        WIDE,
        {"model.discriminator.width": 20_000},
        {"model.generator.depth": 10**9},
        {"model.history": 10**9},
        {"model.latent_dim": 2**40},
    ],
)
def test_networks_that_the_checkpoint_has_no_weights_for(changes, tmp_path):
    """The configuration is edited or made up: nothing is allocated by what it says."""
    run, config = with_config(tmp_path, **changes)
    bounded(open_run, run, "cpu", most=60, says="do not fit its config.yaml")
    goes_on = functools.partial(fit, config, None, run, device="cpu", resume="latest")
    bounded(goes_on, most=120, says="do not fit its config.yaml")


def test_a_dry_run_counts_without_memory():
    wide = [f"{key}={value}" for key, value in WIDE.items()]
    changes = [word for text in wide for word in ("--set", text)]
    words = ["train", "--preset", "gan-ring", *changes, "--dry-run", "--device", "cpu", "--json"]
    bounded(main, words, most=120, says="0")


def test_a_state_of_a_hundred_megabytes(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(STORED, run, symlinks=True)
    place = run / "checkpoints" / STEP.name
    (place / "state.json").write_bytes(b"[" * (100 * MIB))
    bounded(checkpoint.read, place, most=80, says="larger than")
    (place / "state.json").write_bytes(b"[" * MIB)
    bounded(checkpoint.read, place, most=80, says="damaged: not readable")
    (place / "state.json").unlink()
    os.mkfifo(place / "state.json")
    bounded(checkpoint.read, place, most=80, says="not a regular file")


@pytest.mark.parametrize(
    "text",
    [
        b"a: [" + b"x, " * (34 * MIB) + b"]",
        b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121)),
        b"a: &a {x: 1}\n" + b"".join(b"%c: &%c {<<: [*%c, *%c]}\n" % (c + 1, c + 1, c, c) for c in range(97, 121)),
        b"a: &a [*a]",
        b"[" * 100_000,
        b"- " * 100_000,
        b"a: " + b"1" * 200_000 + b"x",
        b"a: " + b":".join([b"59"] * 20_000),
        b"? " * 5_000,
    ],
)  # fmt: skip
def test_yaml_bombs(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(text)
    for read in (read_yaml, lambda path: load_config(str(path))):
        bounded(read, path, most=60, says="error")


def test_repeated_keys_are_not_the_last_one(tmp_path):
    (tmp_path / "p.yaml").write_text("extends: vae\ntrain: {steps: 1, steps: 2}\n")
    bounded(lambda: load_config(str(tmp_path / "p.yaml")), says="line 2: steps is given twice")


def judged(path):
    return diagnose(read_curves(path)).verdict


ROW = {"step": 1, "loss/generator": 1.0}


@pytest.mark.parametrize(
    ("content", "most", "says"),
    [
        (b'{"step": 1, "a": "' + b"x" * (200 * MIB) + b'"}\n', 20, "none of its 1 lines"),
        (b"[" * (20 * MIB), 20, "none of its 1 lines"),
        (b'{"step": 1}\n' + b" " * (50 * MIB), 20, "too-short"),
        (b'{"step": ' + b"9" * 5000 + b"}\n" + b'{"step": 1e400}\n{"step": NaN}\n{"step": 1}\n', 20, "too-short"),
        (b"".join(b'{"step": %d, "k%d": 1}\n' % (i, i) for i in range(4_000)), 120, "too-short"),
        (b'{"step": 1, ' + b", ".join(b'"k%d": 1' % i for i in range(60_000)) + b"}\n", 40, "too-short"),
        (b"".join(b'{"step": %d, "loss/g": 1e308, "b": -Infinity}\n' % i for i in range(2000)), 20, "divergence"),
    ],
)  # fmt: skip
def test_logs_without_end(content, most, says, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    bounded(judged, tmp_path / "metrics.jsonl", most=most, says=says)
