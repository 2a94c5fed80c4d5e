"""The whole way from folders of PNGs to numbers, against torch-fidelity on the same files and weights."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from genctl.report.evaluate import evaluate

N = 8


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    rng = np.random.default_rng(0)
    found = []
    for name, contrast in (("generated", 60), ("real", 90)):
        folder = tmp_path_factory.mktemp(name)
        for i in range(N):
            coarse = rng.normal(128, contrast, (6, 6, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(
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
