"""``train --init``: another run's weights, and nothing else that it kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.engine.fit import fit
from genctl.errors import DataError


def tensors(run, step):
    folder = run / f"checkpoints/step-{step:08d}"
    kinds = ("weights", "averaged")
    weights, averaged = (load_file(folder / f"{kind}.safetensors") for kind in kinds)
    return weights | averaged


def test_labelled_examples_are_those_of_the_new_data(tmp_path):
    first = small("semi-supervised-gan-mnist", model__labels=20)
    fit(first, None, tmp_path / "a", device="cpu")
    other = {"model__labels": 30, "train__seed": 5, "train__keep": 0}
    fit(small("semi-supervised-gan-mnist", **other), None, tmp_path / "b", init=tmp_path / "a")
    a, b = tensors(tmp_path / "a", 2), tensors(tmp_path / "b", 0)
    assert all(torch.equal(a[key], b[key]) for key in b if not key.startswith("labelled."))
    assert len(set(b["labelled.index"].tolist())) == 30


def test_the_schedule_may_be_another(tmp_path):
    """A longer memory, and a balance, begin anew."""
    fit(small("began", data__spec="digits", data__size=8), None, tmp_path / "a", device="cpu")
    more = {"model__history": 16, "model__play": {"kind": "adaptive"}, "train__keep": 0}
    config = small("began", data__spec="digits", data__size=8, **more)
    fit(config, None, tmp_path / "b", device="cpu", init=tmp_path / "a")
    a, b = tensors(tmp_path / "a", 2), tensors(tmp_path / "b", 0)
    assert float(a["objective.k"]) > 0
    assert float(b["objective.k"]) == 0
    assert int(b["history.filled"]) == 0
    networks = [key for key in b if key.startswith(("generator.", "discriminator."))]
    assert all(torch.equal(a[key], b[key]) for key in networks)


def test_other_networks_are_refused(tmp_path):
    fit(small("gan"), None, tmp_path / "a", device="cpu")
    for changes in ({"model__generator__width": 9}, {"model__generator__depth": 2}):
        with pytest.raises(DataError, match="does not fit"):
            fit(small("gan", **changes), None, tmp_path / "b", init=tmp_path / "a")
        assert not (tmp_path / "b").exists()
