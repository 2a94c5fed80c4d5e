from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from genctl.errors import CapabilityError, DataError
from genctl.metrics.features import inception, stored
from genctl.metrics.features.classifier import ClassifierFeatures, hash_of
from genctl.metrics.features.extractor import collect, resized, with_channels
from genctl.metrics.features.pixels import Pixels
from genctl.types import DataSpec


def bytes_of(n, channels, height, width, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, height, width), generator=g).to(torch.uint8)


def test_pixels_are_the_bytes_over_255_where_nothing_is_resized():
    images = bytes_of(3, 1, 8, 8)
    features = collect(Pixels([(1, 8, 8), (1, 8, 8)]), [images], "x").values
    np.testing.assert_allclose(features, images.flatten(1).numpy() / 255.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(1, 8, 8), (1, 28, 28)], (1, 8, 8)),
        ([(3, 64, 64), (3, 128, 128)], (3, 32, 32)),
        ([(1, 28, 28), (3, 20, 40)], (3, 20, 28)),
    ],
)
def test_pixels_of_both_sides_come_to_the_smaller_size_at_most_32(shapes, expected):
    extractor = Pixels(shapes)
    for shape in shapes:
        features, logits = extractor(bytes_of(2, *shape))
        assert features.shape == (2, np.prod(expected))
        assert logits is None
    assert f"{expected[1]}x{expected[2]}" in extractor.protocol["resize"]


def test_shrinking_is_antialiased():
    """A checkerboard of single pixels becomes even grey; without antialiasing it would alias."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    shrunk = resized(board[None, None].float(), 16, 16)
    assert (shrunk[..., 1:-1, 1:-1] - 127.5).abs().max() < 3
    gradient = torch.arange(64.0).expand(1, 1, 64, 64)
    expected = torch.from_numpy(
        np.array(
            Image.fromarray(gradient[0, 0].numpy()).resize((16, 16), Image.Resampling.BILINEAR)
        )
    )
    torch.testing.assert_close(resized(gradient, 16, 16)[0, 0], expected, atol=1e-3, rtol=0)


def test_grey_is_repeated_and_colour_becomes_pillows_luma():
    grey = bytes_of(2, 1, 5, 5)
    assert (with_channels(grey, 3) == grey).all()
    colour = bytes_of(1, 3, 16, 16)
    pillow = np.asarray(Image.fromarray(colour[0].permute(1, 2, 0).numpy()).convert("L"))
    difference = with_channels(colour, 1)[0, 0].numpy().astype(int) - pillow.astype(int)
    assert np.abs(difference).max() <= 1  # Pillow's fixed-point rounding
    with pytest.raises(DataError, match="2 channels"):
        with_channels(bytes_of(1, 2, 4, 4), 3)


class Poisoned:
    name, standard, classes, warning, protocol = "poisoned", False, False, "", None

    def __call__(self, images):
        features = images.float().flatten(1).clone()
        features[images[:, 0, 0, 0] == 7] = torch.nan
        return features, None


def test_features_that_are_not_finite_stop_the_measure():
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    images[3] = 7
    with pytest.raises(DataError, match="1 of 5 rows are not finite, the first is row 3"):
        collect(Poisoned(), images.split(2), "folder")
    with pytest.raises(DataError, match="no example"):
        collect(Poisoned(), [], "folder")


class Linear(nn.Module):
    """Knows what it was given: features are the inputs, logits two fixed sums."""

    def features_and_logits(self, x):
        return x.flatten(1), torch.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)


def test_classifier_sees_its_own_size_channels_and_range():
    spec = DataSpec("image", (1, 4, 4), classes=2)
    extractor = ClassifierFeatures(Linear(), spec, "run", 7, "cpu")
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    found = collect(extractor, [black_and_white.expand(2, 3, 16, 16)], "x")
    np.testing.assert_allclose(found.values, [[-1.0] * 16, [1.0] * 16])
    np.testing.assert_allclose(found.log_probabilities[1], [0.0, -32.0], atol=1e-9)
    assert "step 7" in extractor.protocol["extractor"]
    assert not extractor.standard


def test_hash_of_weights_follows_the_weights_only():
    torch.manual_seed(0)
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    assert hash_of(one) != hash_of(two)
    two.load_state_dict(one.state_dict())
    assert hash_of(one) == hash_of(two)


# --- stored -------------------------------------------------------------------------------------
def test_stored_features_and_probabilities_are_read(tmp_path):
    path = tmp_path / "x.npz"
    p = np.array([[1.0, 0.0], [0.25, 0.75]], dtype=np.float32)
    np.savez(path, features=np.ones((2, 3), dtype=np.float32), probabilities=p)
    assert set(stored.arrays_in(path)) == {"features", "probabilities"}
    found = stored.read(path)
    assert found.values.shape == (2, 3)
    np.testing.assert_allclose(np.exp(found.log_probabilities), p)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"features": np.array([[1.0], [np.nan]])}, "1 of 2 rows are not finite"),
        ({"probabilities": np.array([[2.0, -1.0]])}, "smallest -1"),
        ({"probabilities": np.array([[5.0, 1.0]])}, "row sums off by 5"),
        ({"features": np.ones((2, 3)), "probabilities": np.full((3, 2), 0.5)}, "differ in length"),
        ({"features": np.ones((0, 3))}, "no rows"),
        ({"features": np.ones(3)}, "features is"),
        ({"features": np.array([["a"]])}, "features is"),
    ],
)
def test_stored_arrays_that_are_wrong_are_said_so(tmp_path, arrays, reason):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=reason):
        stored.read(path)


def test_what_is_no_npz_holds_nothing(tmp_path):
    (tmp_path / "x.npz").write_text("no zip")
    assert stored.arrays_in(tmp_path / "x.npz") == []
    assert stored.arrays_in(tmp_path) == []


def test_the_precision_of_stored_features_is_what_the_file_says(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, features=np.ones((2, 3)))
    assert stored.precision_of(path) is None
    for name in ("fp32", "bf16"):
        np.savez(path, features=np.ones((2, 3)), precision=name)
        assert stored.precision_of(path) == name
    assert stored.read(path).values.shape == (2, 3)
    for wrong in ("fp8\x1b[2J", np.float32(1), "x" * 2000, np.array([None])):
        np.savez(path, features=np.ones((2, 3)), precision=wrong)
        with pytest.raises(DataError, match="`precision`") as raised:
            stored.precision_of(path)
        assert "\x1b" not in str(raised.value)


# --- the standard network -----------------------------------------------------------------------
def test_missing_weights_are_a_capability_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(inception.ENVIRONMENT, raising=False)

    def refuse(url, target, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(CapabilityError, match="no route to host") as raised:
        inception.Inception(None)
    assert raised.value.exit_code == 5
    assert "--inception-weights FILE" in raised.value.remedy


def test_weights_that_are_not_this_networks_are_refused(tmp_path):
    with pytest.raises(CapabilityError, match="No such file"):
        inception.Inception(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CapabilityError, match="not readable"):
        inception.Inception(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CapabilityError, match="not readable"):
        inception.Inception(tmp_path / "text.safetensors")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CapabilityError, match="not this network's"):
        inception.Inception(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CapabilityError, match="not a dictionary"):
        inception.Inception(tmp_path / "list.pth")


class Trap:
    def __reduce__(self):
        return (open, ("opened", "w"))


def test_weights_are_never_unpickled_freely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(CapabilityError, match="not readable"):
        inception.Inception(tmp_path / "trap.pth")
    assert not (tmp_path / "opened").exists()


def test_environment_names_the_weights(inception_weights, monkeypatch):
    monkeypatch.setenv(inception.ENVIRONMENT, str(inception_weights))
    network = inception.Inception(None)
    assert network.standard
    assert "unknown hash" in network.warning
    assert len(network.protocol["extractor_hash"]) == 64


def test_features_do_not_depend_on_the_batch_size(inception_weights, device):
    network = inception.Inception(inception_weights, device)
    images = bytes_of(3, 1, 20, 20)
    one = collect(network, images.split(1), "x")
    all_at_once = collect(network, [images], "x")
    assert one.values.shape == (3, 2048)
    assert one.log_probabilities.shape == (3, 1008)
    scale = np.abs(all_at_once.values).max()
    np.testing.assert_allclose(one.values, all_at_once.values, atol=1e-5 * scale)
