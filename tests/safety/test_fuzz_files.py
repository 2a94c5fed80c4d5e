"""Archives, arrays and images with damage of any kind: read, or refused with a word."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import contract_errors, damaged, fuzz
from PIL import Image

from genctl.data.arrays import read_idx
from genctl.data.dataset import open_dataset
from genctl.data.decode import MAX_PIXELS, BrokenImageError, decode
from genctl.data.describe import describe
from genctl.data.labels import name_facts
from genctl.errors import DataError
from genctl.metrics.features import stored


def picture(kind: str, size=(9, 7), mode="RGB", **save) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, kind, **save)
    return out.getvalue()


def tiff() -> bytes:
    return picture("TIFF", compression="tiff_lzw")


PICTURES = {
    "png": picture("PNG"),
    "palette": picture("PNG", mode="P", transparency=0),
    "text": picture("PNG", pnginfo=None),
    "jpeg": picture("JPEG"),
    "cmyk": picture("JPEG", mode="CMYK"),
    "gif": picture("GIF"),
    "bmp": picture("BMP"),
    "tiff": tiff(),
    "webp": picture("WEBP"),
    "ppm": picture("PPM"),
    "tga": picture("TGA", compression="tga_rle"),
    "jp2": picture("JPEG2000"),
    "ico": picture("ICO", size=(16, 16)),
}
GOOD = PICTURES["png"]
METADATA = b'file_name,text,label\na/0.png,"a cat",1\n../b/1.png,dog,2\n'
JSONL = (
    b'{"file_name": "a/0.png", "label": "x", "text": "cat"}\n{"file_name": "b/1.png", "label": 7}\n'
)
MEMBERS = {"a/0.png": GOOD, "b/1.png": GOOD, "metadata.csv": METADATA, "notes.txt": b"x"}


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(format: int, long: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(f"{'d' * 120}/{name}" if long else name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("c/2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def npz(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


TARS = {
    "ustar.tar": tarred(tarfile.USTAR_FORMAT),
    "gnu.tar": tarred(tarfile.GNU_FORMAT, long=True),
    "pax.tar": tarred(tarfile.PAX_FORMAT, long=True),
    "x.tar.gz": gzip.compress(tarred(tarfile.GNU_FORMAT), mtime=0),
    "x.tar.bz2": bz2.compress(tarred(tarfile.PAX_FORMAT)),
    "x.tar.xz": lzma.compress(tarred(tarfile.USTAR_FORMAT)),
}
ARCHIVES = {"x.zip": zipped(), **TARS}
ARRAYS = {
    "images": npz(images=np.zeros((4, 3, 3, 3), np.uint8), labels=np.arange(4)),
    "points": npz(points=np.ones((5, 2))),
    "features": npz(features=np.ones((4, 3), np.float32), probabilities=np.full((4, 2), 0.5)),
}
HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 3, 3), }"
IDX = b"\0\0\x08\x03" + struct.pack(">3I", 4, 3, 3) + bytes(36)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def opened(path):
    with contract_errors():
        describe(open_dataset(str(path), split="all", size=4))


@fuzz(200)
@given(data=st.data())
def test_damaged_pictures(data):
    kind = data.draw(st.sampled_from(sorted(PICTURES)))
    content = data.draw(damaged(PICTURES[kind]))
    reason, found = "", None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = decode(content, data.draw(st.sampled_from([None, 4])))
    except BrokenImageError as error:
        reason = str(error)
    if found is None:
        assert reason.isprintable()
        assert reason
    else:
        assert found.pixels.dtype == np.uint8
        assert found.pixels.shape[2] in (1, 3)
        assert found.pixels.size <= 3 * MAX_PIXELS


@fuzz(120)
@given(data=st.data())
def test_damaged_archives(place, data):
    name = data.draw(st.sampled_from(sorted(ARCHIVES)))
    path = place / name
    path.write_bytes(data.draw(damaged(ARCHIVES[name], (b"../../", b"C:\\", b"\x1b[2J.png"))))
    opened(path)


@fuzz(60)
@given(data=st.data())
def test_damaged_inside_a_sound_archive(place, data):
    """What is damaged before it is compressed still passes the compressor's own checks."""
    name = data.draw(st.sampled_from(["x.tar.gz", "x.tar.xz"]))
    inner = data.draw(damaged(tarred(tarfile.PAX_FORMAT, data.draw(st.booleans()))))
    path = place / name
    path.write_bytes(gzip.compress(inner) if name.endswith("gz") else lzma.compress(inner))
    opened(path)


@fuzz(80)
@given(data=st.data())
def test_damaged_arrays(place, data):
    kind = data.draw(st.sampled_from(sorted(ARRAYS)))
    path = place / "x.npz"
    path.write_bytes(data.draw(damaged(ARRAYS[kind])))
    opened(path)
    with contract_errors():
        if stored.arrays_in(path):
            stored.read(path)


@fuzz(80)
@given(data=st.data())
def test_damaged_array_headers(place, data):
    """A sound zip around an array whose header says anything."""
    key = data.draw(st.sampled_from(["images", "labels", "points", "features", "probabilities"]))
    extra = (
        b"(4,) * 10**9",
        b"1099511627776, ",
        b"-1",
        b"'|O'",
        b"'<f16'",
        b"'>f8'",
        b"[('a', '<i8')]",
    )
    text = data.draw(damaged(HEADER, extra))
    version = data.draw(st.sampled_from([b"\x01\0", b"\x02\0", b"\x03\0", b"\x09\0"]))
    width = "<H" if version == b"\x01\0" else "<I"
    length = data.draw(st.one_of(st.just(len(text)), st.integers(0, 2**16 - 1)))
    body = data.draw(st.sampled_from([bytes(108), b"", bytes(1000)]))
    path = place / "y.npz"
    with zipfile.ZipFile(path, "w") as archive:
        member = b"\x93NUMPY" + version + struct.pack(width, length) + text + body
        archive.writestr(data.draw(st.sampled_from([f"{key}.npy", key])), member)
    opened(path)
    with contract_errors():
        stored.read(path)


@fuzz(60)
@given(data=st.data())
def test_damaged_ubyte_files(place, data):
    path = place / data.draw(st.sampled_from(["a", "a.gz"]))
    content = data.draw(damaged(IDX))
    path.write_bytes(gzip.compress(content) if path.suffix else content)
    with contract_errors():
        assert read_idx(path).size <= len(content)


@fuzz(120)
@given(data=st.data())
def test_any_metadata(data):
    names = ["a/0.png", "b/1.png", "c/\x1b[31m2.png"]
    name, text = data.draw(
        st.sampled_from([("metadata.csv", METADATA), ("b/metadata.jsonl", JSONL)])
    )
    spoilt = data.draw(damaged(text, (b'"', b"\n", b"\r", b"{", b"[" * 5000, b"\xe2\x80\xa8")))
    with contract_errors():
        found = name_facts(names, [(name, spoilt.decode("utf-8", "replace"))], "data")
        assert found.labels is None or len(found.labels) == 3
        assert all(text.isprintable() for text in found.class_names if text.isascii())


def test_the_undamaged_ones_are_good(place):
    """Otherwise the tests above would refuse at the first byte."""
    for data in PICTURES.values():
        assert decode(data).pixels.shape[2] == 3
    for name, data in ARCHIVES.items():
        (place / name).write_bytes(data)
        found = open_dataset(str(place / name), split="all")
        assert len(found) == 2
        assert found.captions == ["a cat", ""] or "ddd" in found.names[0]
    for name, data in ARRAYS.items():
        (place / "x.npz").write_bytes(data)
        if name == "features":
            assert len(stored.read(place / "x.npz").values) == 4
        else:
            assert len(open_dataset(str(place / "x.npz"), split="all")) > 3
    (place / "a").write_bytes(IDX)
    assert read_idx(place / "a").shape == (4, 3, 3)
    with pytest.raises(DataError):
        read_idx(place / "x.npz")


def test_what_long_runs_have_found(tmp_path):
    """A member without a name, and an array of nothing whose other edges are beyond everything."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/0.png", GOOD)
        archive.writestr("nameless", b"")
    content = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(content.replace(b"nameless", bytes(8)))
    assert len(open_dataset(str(tmp_path / "x.zip"), split="all")) == 1
    (tmp_path / "a").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 2**31 + 1, 7, 0))
    with pytest.raises(DataError, match="declares 2,147,483,649 × 7 × 0"):
        read_idx(tmp_path / "a")
