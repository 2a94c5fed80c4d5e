"""The whole way from folders of PNGs to numbers, against torch-fidelity on the same files and weights."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from genctl.report.evaluate import evaluate

N = 8


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Colour pictures that are larger than the network's 299 pixels, and small grey ones."""
    rng = np.random.default_rng(0)
    found = []
    for name, contrast, shape, size in (
        ("generated", 90, (6, 6, 3), (330, 310)),
        ("real", 20, (6, 6), (40, 40)),
    ):
        folder = tmp_path_factory.mktemp(name)
        for i in range(N):
            coarse = rng.normal(128, contrast, shape).clip(0, 255).astype(np.uint8)
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
                folder / f"{i:03d}.png"
            )
        found.append(folder)
    return found


def test_fid_kid_and_is_equal_torch_fidelitys(folders, inception_weights):
    peer = pytest.importorskip("torch_fidelity")
    generated, real = folders
    theirs = peer.calculate_metrics(
        input1=str(generated),
        input2=str(real),
        feature_extractor_weights_path=str(inception_weights),
        fid=True,
        kid=True,
        isc=True,
        isc_splits=3,
        kid_subsets=1,
        kid_subset_size=N,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,  # no worker processes
        batch_size=N,
    )
    result = evaluate(
        generated,
        real,
        ["fid", "kid", "is"],
        inception_weights=inception_weights,
        is_splits=3,
        device="cpu",
        batch_size=5,
    )
    ours = result["metrics"]
    fid = theirs["frechet_inception_distance"]
    assert fid > 1  # the two sets do differ
    assert ours["fid"]["value"] == pytest.approx(fid, abs=2e-3 + 2e-5 * fid)
    kid = theirs["kernel_inception_distance_mean"]
    assert ours["kid"]["mean"] == pytest.approx(kid, rel=1e-5)
    # Away from 1, so that another order of the files shows: it moves the score by some 4e-3.
    assert theirs["inception_score_mean"] > 1.02
    assert ours["is"]["mean"] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert ours["is"]["std"] == pytest.approx(theirs["inception_score_std"], rel=1e-3)
    assert result["features"] == "inception"
    assert (result["n_generated"], result["n_real"]) == (N, N)
    assert result["protocol"]["extractor_hash_known"] is False
    warnings = " ".join(result["warnings"])
    assert "unknown hash" in warnings
    assert "8 examples of 2048 features" in warnings
    assert "subsets of 8 are used" in warnings


def test_more_examples_than_features(tmp_path):
    """Grey pictures as their own 25 features, against torch-fidelity's statistics of the same."""
    torch = pytest.importorskip("torch")
    fid, kid = (pytest.importorskip(f"torch_fidelity.metric_{name}") for name in ("fid", "kid"))
    rng = np.random.default_rng(1)
    features = []
    for name, n, largest in (("a", 130, 256), ("b", 90, 200)):
        (tmp_path / name).mkdir()
        images = rng.integers(0, largest, (n, 5, 5), dtype=np.uint8)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{i:03d}.png")
        features.append(torch.from_numpy(images.reshape(n, 25) / 255.0))  # theirs keeps float64
    statistics = [fid.fid_features_to_statistics(side) for side in features]
    theirs = fid.fid_statistics_to_metric(*statistics, verbose=False)
    same = kid.kid_features_to_metric(*features, kid_subsets=4, kid_subset_size=50, verbose=False)
    places = tmp_path / "a", tmp_path / "b"
    given = {"features": "pixels", "kid_subsets": 4, "kid_subset_size": 50, "device": "cpu"}
    found = [evaluate(*places, ["fd", "kid"], batch_size=b, **given)["metrics"] for b in (7, 64)]
    value = theirs["frechet_inception_distance"]
    for ours in found:
        assert ours["fd"]["value"] == pytest.approx(value, rel=2e-5)
        for key in ("mean", "std"):
            expected = same[f"kernel_inception_distance_{key}"]
            assert ours["kid"][key] == pytest.approx(expected, rel=1e-5)
    assert found[0]["fd"]["value"] == pytest.approx(found[1]["fd"]["value"], rel=1e-5)
    itself = evaluate(places[0], places[0], ["fd"], features="pixels", device="cpu")["metrics"]
    assert itself["fd"]["value"] <= 1e-6 * np.trace(statistics[0]["sigma"])
