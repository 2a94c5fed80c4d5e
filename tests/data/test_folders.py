import json
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from genctl.data.dataset import open_dataset
from genctl.data.describe import describe
from genctl.errors import DataError, UsageError


def by_name(dataset) -> dict[str, int]:
    return {name: i for i, name in enumerate(dataset.names)}


def test_pixels_arrive_as_they_were_written(tmp_path, paint):
    paths = paint(tmp_path / "set", 12, size=(10, 6))
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert dataset.examples.shape == (12, 3, 6, 10)
    assert dataset.spec.shape == (3, 6, 10)
    assert dataset.examples.dtype == torch.uint8
    place = by_name(dataset)
    for path in paths:
        wanted = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
        assert torch.equal(dataset.images(torch.tensor([place[path.name]]))[0], wanted)


def test_strange_names_and_what_is_ignored(tmp_path, paint):
    root = tmp_path / "ein Ordner"
    a, b, c, d, e = paint(root, 5)
    a.rename(root / "name with spaces.PNG")
    b.rename(root / "猫と犬.png")
    c.rename(root / "ünïcode ß.Png")
    d.rename(root / ".hidden.png")
    e.rename(root / "last.jpeg")  # a PNG by content
    (root / "Thumbs.db").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    paint(root / "folder.png", 2)
    paint(root / ".git", 2)
    dataset = open_dataset(str(root), split="all")
    assert sorted(dataset.names) == sorted(
        ["name with spaces.PNG", "猫と犬.png", "ünïcode ß.Png", "last.jpeg"]
    )
    assert dataset.broken == []
    assert dataset.labels is None


def test_links_inside_are_followed_once_loops_end_and_none_leads_out(tmp_path, paint):
    root = tmp_path / "root"
    paint(root / "a", 3)
    outside = tmp_path / "outside"
    paint(outside, 2, seed=1)
    (root / "loop").symlink_to(root)
    (root / "a" / "up").symlink_to(tmp_path)
    (root / "again").symlink_to(root / "a")
    (root / "self.png").symlink_to(root / "self.png")
    (root / "b").symlink_to(outside)
    (root / "c.png").symlink_to(outside / "00000.png")
    (root / "a" / "d.png").symlink_to(root / "a" / "00000.png")
    with pytest.raises(DataError, match=r"1 of 5 image files .*self\.png"):
        open_dataset(str(root), split="all")
    (root / "self.png").unlink()
    dataset = open_dataset(str(root), split="all")
    assert len(dataset) == 4
    assert any("3 links lead out of the folder" in text for text in dataset.warnings)
    assert all(name.startswith(("a/", "again/")) for name in dataset.names)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "all").symlink_to(outside)
    with pytest.raises(DataError, match=r"only 1 other files \(1 links that lead out of it\)"):
        open_dataset(str(linked))
    (tmp_path / "itself").symlink_to(outside)
    assert len(open_dataset(str(tmp_path / "itself"), split="all")) == 2


def test_a_pipe_is_not_waited_for(tmp_path, paint):
    paint(tmp_path / "set", 30)
    os.mkfifo(tmp_path / "set" / "pipe.png")
    dataset = open_dataset(str(tmp_path / "set"))
    assert dataset.broken == [("pipe.png", "not a regular file")]


def test_grey_only_if_all_are_grey(tmp_path, paint):
    paint(tmp_path / "set", 5, grey=True)
    assert open_dataset(str(tmp_path / "set")).spec.shape == (1, 8, 8)
    paint(tmp_path / "set" / "more", 1)
    assert open_dataset(str(tmp_path / "set")).spec.shape == (3, 8, 8)


def test_several_sizes_need_a_choice(tmp_path, paint):
    paint(tmp_path / "set", 4, size=(8, 8))
    paint(tmp_path / "set" / "b", 2, size=(9, 7))
    with pytest.raises(DataError) as caught:
        open_dataset(str(tmp_path / "set"))
    assert "8 × 8 (4), 9 × 7 (2)" in caught.value.reason
    assert "--set data.size=8" in caught.value.remedy
    assert open_dataset(str(tmp_path / "set"), size=6).spec.shape == (3, 6, 6)


def test_class_folders_become_labels(tmp_path, paint):
    for k, name in enumerate(["zebra", "apple", "mid dle"]):
        paint(tmp_path / "top" / "set" / name / "deeper", 3, seed=k)
    dataset = open_dataset(str(tmp_path / "top"), split="all")
    assert dataset.spec.class_names == ("apple", "mid dle", "zebra")
    assert dataset.spec.classes == 3
    for name, label in zip(dataset.names, dataset.labels.tolist(), strict=True):
        assert dataset.spec.class_names[label] in name
    assert describe(dataset)["labels"] == {"apple": 3, "mid dle": 3, "zebra": 3}


def test_loose_images_beside_folders_are_no_classes(tmp_path, paint):
    paint(tmp_path / "set", 2)
    paint(tmp_path / "set" / "a", 2, seed=1)
    paint(tmp_path / "set" / "b", 2, seed=2)
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert dataset.labels is None
    assert any("no classes" in text for text in dataset.warnings)


def test_train_and_test_folders_are_the_splits(tmp_path, paint):
    for k, (part, name) in enumerate([("train", "a"), ("train", "b"), ("test", "a"), ("val", "b")]):
        paint(tmp_path / "set" / part / name, 4, seed=k)
    train = open_dataset(str(tmp_path / "set"))
    test = open_dataset(f"{tmp_path / 'set'}@test")
    assert all(name.startswith("train/") for name in train.names)
    assert {name.split("/")[0] for name in test.names} == {"test", "val"}
    assert train.spec.class_names == test.spec.class_names == ("a", "b")
    assert train.counts == test.counts == {"train": 8, "test": 8}
    for name, label in zip(test.names, test.labels.tolist(), strict=True):
        assert name.split("/")[1] == "ab"[label]


def test_metadata_gives_labels_and_captions(tmp_path, paint):
    paths = paint(tmp_path / "set", 4)
    lines = ["file_name,text,label", '00000.png,"a cat, sitting",10', "00001.png,a dog,9"]
    (tmp_path / "set" / "metadata.csv").write_text("\n".join([*lines, "gone.png,x,9"]), "utf-8-sig")
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    place = by_name(dataset)
    assert dataset.spec.class_names == ("9", "10")
    assert dataset.captions[place["00000.png"]] == "a cat, sitting"
    assert dataset.labels[[place[path.name] for path in paths]].tolist() == [1, 0, -1, -1]
    assert describe(dataset)["labels"]["unlabelled"] == 2
    assert any("2 of 4 images have no row" in text for text in dataset.warnings)
    assert any("1 rows of the metadata name no image" in text for text in dataset.warnings)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("metadata.csv", "image,text\na,b\n", "image, text"),
        ("metadata.csv", "", "nothing"),
        ("metadata.jsonl", "{]\n", "line 1 is not JSON"),
        ("metadata.jsonl", "[1]\n", "line 1 is not an object"),
        ("metadata.jsonl", '{"file_name": 3}\n', "line 1 has no file_name"),
        ("metadata.jsonl", '{"file_name": "00000.png", "label": [1]}\n', "list or an object"),
    ],
)
def test_damaged_metadata_is_named(tmp_path, paint, name, text, says):
    paint(tmp_path / "set", 3)
    (tmp_path / "set" / name).write_text(text)
    with pytest.raises(DataError, match=says):
        open_dataset(str(tmp_path / "set"))


def test_the_holdout_is_stable_when_files_are_added_or_renamed(tmp_path, paint):
    paint(tmp_path / "set", 200)

    def contents(split):
        dataset = open_dataset(str(tmp_path / "set"), split=split, holdout=0.2)
        return {bytes(row.numpy().tobytes()) for row in dataset.examples}

    train, test = contents("train"), contents("test")
    assert not train & test
    assert len(train) + len(test) == 200
    assert 15 <= len(test) <= 70  # a binomial draw of mean 40, sd 5.7
    for path in (tmp_path / "set").glob("0000*.png"):
        path.rename(path.with_name(f"new-{path.name}"))
    paint(tmp_path / "set" / "more", 100, seed=9)
    assert train < contents("train")
    assert test < contents("test")


def test_no_held_out_example_is_an_error_with_a_remedy(tmp_path, paint):
    paint(tmp_path / "set", 5)
    with pytest.raises(DataError) as caught:
        open_dataset(str(tmp_path / "set"), split="test", holdout=0.0)
    assert "data.holdout" in caught.value.remedy


def test_one_image_trains_with_a_warning(tmp_path, paint):
    paint(tmp_path / "set", 1)
    for holdout in (0.05, 0.999999999):
        dataset = open_dataset(str(tmp_path / "set"), holdout=holdout)
        assert len(dataset) == 1
        assert any("only one image" in text for text in dataset.warnings)


def test_an_empty_folder_and_one_without_images(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="is empty"):
        open_dataset(str(tmp_path / "set"))
    (tmp_path / "set" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no image, only 1 other files \(1 \.txt\)"):
        open_dataset(str(tmp_path / "set"))
    (tmp_path / "set" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(UsageError, match="sound is not read yet"):
        open_dataset(str(tmp_path / "set"))


def test_broken_files_are_skipped_counted_and_named(tmp_path, paint):
    paint(tmp_path / "set", 58)
    (tmp_path / "set" / "text.png").write_text("hello " * 50)
    whole = (tmp_path / "set" / "00000.png").read_bytes()
    (tmp_path / "set" / "half.png").write_bytes(whole[: len(whole) // 2])
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert len(dataset) == 58
    reasons = dict(dataset.broken)
    assert set(reasons) == {"text.png", "half.png"}
    assert "text" in reasons["text.png"]
    assert "truncated" in reasons["half.png"]
    assert describe(dataset)["broken"][0]["reason"]
    with pytest.raises(DataError, match="2 of 60 image files are broken, none is accepted"):
        open_dataset(str(tmp_path / "set"), strict=True)
    # Three of sixty is exactly 5 %; one more is too much.
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + whole[24:29]
    bomb = whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    (tmp_path / "set" / "00001.png").write_bytes(bomb)
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert "30000 × 30000 pixels" in dict(dataset.broken)["00001.png"]
    (tmp_path / "set" / "00002.png").write_bytes(b"")
    with pytest.raises(
        DataError, match="4 of 60 image files are broken, 5 % are accepted"
    ) as caught:
        open_dataset(str(tmp_path / "set"), split="all")
    assert caught.value.exit_code == 4


def test_animated_files_are_noted(tmp_path, paint):
    paint(tmp_path / "set", 3)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "set" / "x.gif", save_all=True, append_images=frames[1:])
    dataset = open_dataset(str(tmp_path / "set"), split="all")
    assert len(dataset) == 4
    assert any("1 animated" in text for text in dataset.warnings)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_is_the_folder_it_was_made_of(tmp_path, paint, kind):
    for k, name in enumerate("ab"):
        paint(tmp_path / "set" / name, 6, seed=k)
    row = {"file_name": "a/00000.png", "text": "first"}
    (tmp_path / "set" / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    archive = tmp_path / f"set.{kind}"
    files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for path in files:
                out.write(path, f"top/{path.relative_to(tmp_path / 'set')}")
    else:
        with tarfile.open(archive, "w:gz" if kind.endswith("gz") else "w") as out:
            for path in reversed(files):
                out.add(path, f"top/{path.relative_to(tmp_path / 'set')}")
    folder = open_dataset(str(tmp_path / "set"), holdout=0.3)
    packed = open_dataset(str(archive), holdout=0.3)
    assert torch.equal(folder.examples, packed.examples)
    assert torch.equal(folder.labels, packed.labels)
    assert folder.captions == packed.captions
    assert "first" in folder.captions or folder.counts["train"] < 12
    assert folder.fingerprint == packed.fingerprint


def test_names_that_leave_the_archive_write_nothing(tmp_path, paint):
    path = paint(tmp_path / "set", 1)[0]
    archive = tmp_path / "in" / "evil.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as out:
        for name in ("../evil.png", "/abs.png", "..\\x.png", "__MACOSX/._a.png", "a/../../b.png"):
            out.write(path, name)
    before = sorted(tmp_path.rglob("*"))
    dataset = open_dataset(str(archive), split="all")
    assert len(dataset) == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_a_tar_are_not_followed(tmp_path, paint):
    path = paint(tmp_path / "set", 1)[0]
    with tarfile.open(tmp_path / "x.tar", "w") as out:
        out.add(path, "a.png")
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(path)
        out.addfile(link)
    assert open_dataset(str(tmp_path / "x.tar"), split="all").names == ["a.png"]


def test_a_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.png", b"\0" * 100)
    raw = (tmp_path / "bomb.zip").read_bytes()
    # The sizes in the central directory are what a reader goes by.
    place = raw.index(b"PK\x01\x02") + 24
    raw = raw[:place] + struct.pack("<I", 0xF0000000) + raw[place + 4 :]
    (tmp_path / "bomb.zip").write_bytes(raw)
    with pytest.raises(DataError, match="over 1000 times"):
        open_dataset(str(tmp_path / "bomb.zip"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.npz", "x.dat"])
def test_rubbish_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"rubbish" * 100)
    with pytest.raises(DataError):
        open_dataset(str(tmp_path / name))


def test_a_cut_tar_is_refused(tmp_path, paint):
    paint(tmp_path / "set", 20)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as out:
        out.add(tmp_path / "set", "set")
    raw = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="not a readable tar"):
        open_dataset(str(tmp_path / "x.tar.gz"))
