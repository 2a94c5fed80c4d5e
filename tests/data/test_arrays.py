import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from genctl.data.arrays import read_npz
from genctl.data.dataset import open_dataset
from genctl.data.describe import describe
from genctl.data.loader import evaluation_batches
from genctl.errors import DataError, UsageError


def write_idx(path, array, packed):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    opener = gzip.open if packed else open
    with opener(f"{path}.gz" if packed else path, "wb") as file:
        file.write(header + array.tobytes())


def write_mnist(folder, packed=False, train=20, test=6):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", train), ("t10k", test)):
        arrays[part] = (
            rng.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            np.arange(n, dtype=np.uint8) % 10,
        )
        write_idx(folder / f"{part}-images-idx3-ubyte", arrays[part][0], packed)
        write_idx(folder / f"{part}-labels-idx1-ubyte", arrays[part][1], packed)
    return arrays


def test_digits_are_scikit_learns_scaled_to_bytes():
    dataset = open_dataset("digits@all")
    found = load_digits()
    assert dataset.spec.shape == (1, 8, 8)
    assert dataset.spec.classes == 10
    assert torch.equal(dataset.labels, torch.from_numpy(found.target).long())
    wanted = np.rint(found.images / 16 * 255).astype(np.uint8)
    assert np.array_equal(dataset.examples[:, 0].numpy(), wanted)
    assert dataset.examples.max() == 255


def test_digits_split_is_a_partition_that_keeps_copies_together():
    train, test, whole = (open_dataset("digits", split=part) for part in ("train", "test", "all"))
    assert len(train) + len(test) == len(whole) == 1797
    assert train.counts == {"train": len(train), "test": len(test)}
    assert 0.03 < len(test) / 1797 < 0.07

    def rows(dataset):
        return {row.numpy().tobytes() for row in dataset.examples}

    assert not rows(train) & rows(test)
    assert len({train.fingerprint, test.fingerprint, whole.fingerprint}) == 3
    assert open_dataset("digits").fingerprint == train.fingerprint


def test_digits_take_any_size():
    dataset = open_dataset("digits", size=12)
    assert dataset.spec.shape == (1, 12, 12)
    assert dataset.examples.shape[2:] == (12, 12)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
def test_mnist_is_read_from_the_usual_places(tmp_path, packed, place):
    arrays = write_mnist(tmp_path / "root" / place, packed)
    train = open_dataset(f"mnist:{tmp_path / 'root'}")
    test = open_dataset(f"mnist:{tmp_path / 'root'}@test")
    assert np.array_equal(train.examples[:, 0].numpy(), arrays["train"][0])
    assert np.array_equal(test.examples[:, 0].numpy(), arrays["t10k"][0])
    assert test.labels.tolist() == arrays["t10k"][1].tolist()
    assert len(open_dataset(f"mnist:{tmp_path / 'root'}@all")) == 26
    assert len(open_dataset(f"mnist:{tmp_path / 'root'}", limit=5)) == 5


def test_missing_mnist_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset(f"fashion-mnist:{tmp_path}")
    assert "--download" in caught.value.remedy
    assert "train-images-idx3-ubyte" in caught.value.reason


@pytest.mark.parametrize("name", ["cifar10", "svhn", "celeba"])
def test_missing_named_sets_say_how_to_get_them(tmp_path, name):
    with pytest.raises(DataError) as caught:
        open_dataset(f"{name}:{tmp_path}")
    assert "--download" in caught.value.remedy


@pytest.mark.parametrize("how", ["short", "long", "magic", "gzip", "header"])
def test_damaged_ubyte_files_are_named(tmp_path, how):
    write_mnist(tmp_path / "raw", packed=how == "gzip")
    suffix = ".gz" if how == "gzip" else ""
    path = tmp_path / "raw" / f"train-images-idx3-ubyte{suffix}"
    raw = path.read_bytes()
    huge = raw[:4] + b"\xff" * 12 + raw[16:]
    path.write_bytes(
        {
            "short": raw[:-5],
            "long": raw + b"x",
            "magic": b"GIF8" + raw[4:],
            "gzip": raw[:-50],
            "header": huge,
        }[how]
    )
    with pytest.raises(DataError) as caught:
        open_dataset(f"mnist:{tmp_path}")
    assert str(path) in caught.value.thing


def test_celeba_reads_its_folder_and_partition(tmp_path, paint):
    base = tmp_path / "celeba"
    paint(base / "img_align_celeba", 6, size=(6, 8))
    rows = [f"{i:05d}.png {part}" for i, part in enumerate([0, 0, 0, 1, 2, 2])]
    (base / "list_eval_partition.txt").write_text("\n".join(rows))
    train = open_dataset(f"celeba:{tmp_path}", size=6)
    assert sorted(train.names) == ["00000.png", "00001.png", "00002.png"]
    assert train.spec.shape == (3, 6, 6)
    assert len(open_dataset(f"celeba:{tmp_path}@test", size=6)) == 3


def test_npz_images_with_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 7, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(40) % 3)
    dataset = open_dataset(f"{tmp_path / 'x.npz'}@all")
    assert np.array_equal(dataset.examples.numpy(), images.transpose(0, 3, 1, 2))
    assert dataset.labels.tolist() == (np.arange(40) % 3).tolist()
    assert dataset.spec.classes == 3
    assert describe(dataset)["labels"] == {"0": 14, "1": 13, "2": 13}


def test_npz_grey_without_a_channel_axis_and_with_alpha(tmp_path):
    np.savez(tmp_path / "grey.npz", images=np.zeros((3, 4, 4), np.uint8))
    assert open_dataset(f"{tmp_path / 'grey.npz'}@all").spec.shape == (1, 4, 4)
    np.savez(tmp_path / "alpha.npz", images=np.zeros((3, 4, 4, 4), np.uint8))
    assert (open_dataset(f"{tmp_path / 'alpha.npz'}@all").examples == 255).all()


def test_npz_points(tmp_path):
    points = np.random.default_rng(0).normal(size=(30, 2))
    np.savez(tmp_path / "x.npz", points=points)
    dataset = open_dataset(f"{tmp_path / 'x.npz'}@all")
    assert dataset.spec.kind == "points"
    assert dataset.spec.shape == (2,)
    batch = next(evaluation_batches(dataset, 50))
    assert np.allclose(batch.x.numpy(), points, atol=1e-6)
    with pytest.raises(UsageError, match="points cannot be binarised"):
        open_dataset(str(tmp_path / "x.npz"), binarise="dynamic")


def test_npz_features_are_for_evaluate_only(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.ones((3, 4)), probabilities=np.ones((3, 2)) / 2)
    found = read_npz(tmp_path / "x.npz")
    assert found["features"].shape == (3, 4)
    with pytest.raises(DataError, match="neither images nor points"):
        open_dataset(str(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros(3)}, "holds x"),
        ({"images": np.zeros((2, 4, 4, 3), np.float32)}, r"images is float32 \(2, 4, 4, 3\)"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)[..., :2]}, "images is uint8"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, "no example"),
        ({"images": np.zeros((2, 0, 4, 3), np.uint8)}, "at least one pixel|images is"),
        (
            {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(3, int)},
            "3 labels for 2",
        ),
        ({"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(2)}, "labels is float64"),
        ({"points": np.array([[np.nan, 0.0]])}, "NaN"),
        ({"images": np.array([{}, {}])}, "not a readable"),
    ],
)
def test_an_unfitting_npz_says_what_was_found(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=says):
        open_dataset(str(tmp_path / "x.npz"))


def test_opening_data_does_not_import_scikit_learn_or_torchvision(tmp_path, paint):
    paint(tmp_path / "set", 3)
    code = (
        "import sys; from genctl.data.dataset import open_dataset; "
        f"open_dataset({str(tmp_path / 'set')!r}); "
        "print([m for m in ('sklearn', 'torchvision', 'scipy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.real_data
def test_real_mnist(real_data):
    train = open_dataset(f"mnist:{real_data('MNIST').parent}")
    assert train.counts == {"train": 60_000, "test": 10_000}
    # The mean and deviation of MNIST's training pixels, as everyone quotes them.
    pixels = train.examples.double() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=1e-4)
    assert float(pixels.std()) == pytest.approx(0.3081, abs=1e-4)
    assert torch.bincount(train.labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
