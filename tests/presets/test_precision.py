"""bfloat16 is a default only where it was shown to train as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from genctl.config import presets
from genctl.config.load import load_config
from genctl.config.schema import TrainConfig

RECORD = Path(__file__).parents[1] / "benchmarks" / "precision.json"
NOISE = 2.0  # Welch's t beyond which a difference is more than the seeds make


def lineage(name: str) -> set[str]:
    """A preset, what it extends, and what else extends that."""
    paths = presets.paths()
    root = {p: yaml.safe_load(paths[p].read_text()).get("extends", p) for p in paths}
    return {other for other, origin in root.items() if origin == root[name]}


def test_the_default_is_full_precision():
    assert TrainConfig().precision == "fp32"


def test_presets_in_bfloat16_come_of_one_that_was_compared():
    rows = {row["preset"]: row for row in json.loads(RECORD.read_text())["rows"]}
    faster = [name for name in presets.paths() if load_config(name).train.precision != "fp32"]
    assert len(faster) >= 5
    for name in faster:
        (compared,) = lineage(name) & set(rows)
        side = "bf16"
        if load_config(name).model.get("penalty", {}):
            side = {"fp32": "bf16", "autocast": "bf16, penalty too"}[
                load_config(name).model["penalty"]["precision"]
            ]
        assert rows[compared]["sides"][side]["share_of_noise"] < NOISE, name


@pytest.mark.parametrize("preset", ["began", "dcgan-mnist", "wgan-gp-mnist"])
def test_three_seeds_were_compared(preset):
    (row,) = (r for r in json.loads(RECORD.read_text())["rows"] if r["preset"] == preset)
    assert len(row["seeds"]) >= 3
    for side in row["sides"].values():
        assert len(side["scores"]) == len(row["seeds"])
        assert side["mean"] == pytest.approx(sum(side["scores"]) / len(row["seeds"]))
