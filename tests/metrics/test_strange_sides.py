"""Sides that are hardly there or fit nothing: a number, or a clear error, never a NaN."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.engine.fit import fit

ALL = ("--fid", "--kid", "--is", "--pr", "--prd", "--memorization")


def pictures(folder, n, shape, seed=0):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def measured(capsys, *words):
    code = main(["evaluate", *map(str, words), "--device", "cpu", "--json"])
    return code, json.loads(capsys.readouterr().out)


def finite(node):
    if isinstance(node, dict):
        return all(finite(value) for value in node.values())
    if isinstance(node, list):
        return all(finite(value) for value in node)
    return not isinstance(node, float) or math.isfinite(node)


def test_one_picture_a_side_gives_reasons_where_there_is_no_number(tmp_path, capsys):
    a, b = (pictures(tmp_path / name, 1, (8, 8), i) for i, name in enumerate("ab"))
    words = [word for word in ALL if word != "--is"]
    code, found = measured(capsys, a, b, *words, "--features", "pixels", "--held-out", a)
    assert code == 0
    metrics = found["metrics"]
    assert finite(metrics)
    for key in ("fd", "kid", "pr", "dc", "prd"):
        assert metrics[key]["reason"], key
    assert "at least 2 examples" in metrics["fd"]["reason"]
    first, second = (np.asarray(Image.open(x / "0.png")) / 255.0 for x in (a, b))
    squared = ((first - second) ** 2).sum()
    nearest = metrics["memorization"]["nearest"][0]["distances"]
    assert nearest == pytest.approx([math.sqrt(squared)], rel=1e-5)


def test_one_row_of_probabilities_and_features(tmp_path, capsys):
    for i, name in enumerate("ab"):
        np.savez(
            tmp_path / f"{name}.npz", features=np.eye(3)[i : i + 1], probabilities=[[0.5, 0.5]]
        )
    code, found = measured(capsys, tmp_path / "a.npz", tmp_path / "b.npz", *ALL, "--is-splits", 1)
    assert code == 0
    assert finite(found["metrics"])
    assert found["metrics"]["is"]["mean"] == pytest.approx(1.0)
    code, found = measured(capsys, tmp_path / "a.npz", "--is")
    assert code == 4
    assert "cannot be split" in found["error"]["reason"]


@pytest.mark.parametrize("shape", [(12, 12), (8, 8, 3)])
def test_other_sizes_and_channels_are_brought_together_and_said(shape, tmp_path, capsys):
    a, b = pictures(tmp_path / "a", 12, (8, 8)), pictures(tmp_path / "b", 12, shape)
    words = [word for word in ALL if word != "--is"]
    code, found = measured(capsys, a, b, *words, "--features", "pixels", "--held-out", a)
    assert (code, finite(found["metrics"])) == (0, True)
    assert "8x8" in found["protocol"]["resize"]
    assert "all brought to 8x8 in" in found["warnings"][0]
    assert str((3 if len(shape) > 2 else 1, *shape[:2])) in found["warnings"][0]
    assert found["protocol"]["real"]["shape"][1:] == list(shape[:2])


def test_a_run_whose_checkpoints_are_gone_is_bad_data(tmp_path, capsys):
    settings = {"train.steps": 1, "train.batch_size": 8, "log.preview_every": 0}
    narrow = {"model.generator.width": 8, "model.discriminator.width": 8}
    fit(load_config("quickstart", {**settings, **narrow}), "digits", tmp_path / "run", device="cpu")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    code, found = measured(capsys, tmp_path / "run", "digits", "--fid", "--features", "pixels")
    assert code == 4
    assert "checkpoint" in found["error"]["thing"] + found["error"]["reason"]
    assert found["error"]["remedy"]
