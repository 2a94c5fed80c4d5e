"""The log's numbers on examples that are not trained on, which leave no trace in the training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import with_overrides
from genctl.data.dataset import open_dataset
from genctl.engine.fit import fit
from genctl.engine.held_out import open_held_out

DRAWING = {
    "model__history": 8,
    "model__discriminator__norm": "spectral",
    "model__discriminator__dropout": 0.2,
    "model__discriminator__noise": 0.1,
}
"""Buffers that every pass moves, a pool of fakes, and layers that draw."""
CASES = {
    "adversarial": ("quickstart", DRAWING),
    "wgan-gp": ("wgan-gp", {"data__size": 8, "data__spec": "digits"}),
    "classifier": ("classifier", {}),
    "latent": ("vae", {}),
    "flow": ("realnvp", {"data__spec": "digits"}),
    "laplacian-pyramid": ("lapgan", {"data__size": 8, "data__spec": "digits"}),
    "semi-supervised": ("semi-supervised-gan-mnist", {"model__labels": 20}),
}


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights_of(run):
    latest = run / "checkpoints/latest"
    return {
        **load_file(latest / "weights.safetensors"),
        **load_file(latest / "averaged.safetensors"),
    }


@pytest.mark.parametrize("case", CASES)
def test_it_changes_nothing_but_the_log(case, tmp_path):
    preset, changes = CASES[case]
    config = small(preset, **{**changes, "train__steps": 4, "log__every": 2})
    fit(config, None, tmp_path / "with", device="cpu")
    fit(with_overrides(config, {"log.held_out": False}), None, tmp_path / "without", device="cpu")
    left, right = weights_of(tmp_path / "with"), weights_of(tmp_path / "without")
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    player = next(iter(config.optim))
    for row, alone in zip(rows_of(tmp_path / "with"), rows_of(tmp_path / "without"), strict=True):
        seen = {key: row.pop(key) for key in list(row) if key.endswith("held_out")}
        assert seen.keys() == {f"loss/{player}/held_out"} | (
            {"score/held_out"} if "score/real" in row else set()
        )
        assert all(isinstance(value, float) for value in seen.values())
        row.pop("seconds"), alone.pop("seconds")
        assert row == alone


def test_the_loss_is_that_of_the_part_that_is_not_trained_on(tmp_path):
    """Labels of the test part are wrong on purpose: only there the classifier must fail."""
    grey = {"train": (40, 200), "test": (200, 40)}
    for part, (first, second) in grey.items():
        for label, value in (("a", first), ("b", second)):
            for i in range(8):
                path = tmp_path / "data" / part / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), value + i).save(path)
    changes = {"train__steps": 60, "train__batch_size": 8, "log__every": 20, "data__size": 8}
    config = small("classifier", data__spec=str(tmp_path / "data"), **changes)
    fit(config, None, tmp_path / "run", device="cpu")
    last = rows_of(tmp_path / "run")[-1]
    assert last["loss/classifier"] < 0.3
    assert last["loss/classifier/held_out"] > 1.0


@pytest.mark.parametrize("spec", ["toy:ring", "digits@all", "digits@test"])
def test_nothing_is_said_where_no_part_is_kept_apart(spec):
    config = small("gan", data__spec=spec)
    assert open_held_out(config, None, open_dataset(spec)) is None


def test_one_image_is_not_held_out_and_trained_on(tmp_path):
    Image.new("L", (8, 8), 3).save(tmp_path / "one.png")
    dataset = open_dataset(str(tmp_path), holdout=0.999)
    assert (len(dataset), dataset.counts["test"]) == (1, 0)
    assert open_held_out(small("gan", data__holdout=0.999), str(tmp_path), dataset) is None


def test_two_parts_share_no_example():
    trained = open_dataset("digits")
    held = open_held_out(small("gan"), "digits", trained)
    assert held is not None
    assert held.split == "test"
    assert len(held) + len(trained) == len(open_dataset("digits@all"))
