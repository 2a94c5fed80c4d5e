"""Scores while training, by two processes: the run is not disturbed, and both stop together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import ranks
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import to_yaml
from genctl.report.evaluate import evaluate
from genctl.report.scores import as_row

WORK = """
import sys
import torch
from genctl.config.load import load_config
from genctl.engine import distributed
from genctl.report import scores

class Worse(scores.RunScorer):
    # Takes the scores, and calls the first the best.
    def __call__(self, address):
        found = super().__call__(address)
        return {**found, "evaluate/nll": float(address.rpartition("@")[2])}

torch.set_num_threads(1)
folder = sys.argv[1]
with distributed.processes("cpu"):
    plain = load_config(f"{folder}/plain.yaml")
    scores.fit(plain, None, f"{folder}/plain", device="cpu")
    config = load_config(f"{folder}/scored.yaml")
    scores.fit(config, None, f"{folder}/scored", device="cpu")
    config = load_config(f"{folder}/patient.yaml")
    result = scores.fit(config, None, f"{folder}/patient", device="cpu", scorer=Worse(config))
    print(result.stopped_by, result.step, result.best)
"""


def test_two_processes_score_stop_and_train_as_without(tmp_path):
    asked = {
        "evaluate__every": 3,
        "evaluate__measures": ["fid", "nll"],
        "evaluate__features": "pixels",
        "evaluate__n": 150,
        "evaluate__best": "nll",
    }
    configs = {
        "plain": small("vae", train__steps=6),
        "scored": small("vae", train__steps=6, **asked),
        "patient": small("vae", train__steps=20, **asked, evaluate__patience=1),
    }
    for name, config in configs.items():
        (tmp_path / f"{name}.yaml").write_text(to_yaml(config))
    results = ranks.finish(ranks.start([sys.executable, "-c", WORK, str(tmp_path)], 2))
    assert [code for code, _, _ in results] == [0, 0], results
    assert [out for _, out, _ in results] == ["patience 6 (3, 3.0)\n"] * 2, "both stop together"

    plain, scored = (
        load_file(tmp_path / name / "checkpoints/latest/weights.safetensors")
        for name in ("plain", "scored")
    )
    assert plain.keys() == scored.keys()
    assert all(torch.equal(plain[key], scored[key]) for key in plain)

    lines = (tmp_path / "scored/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if '"evaluate/' in line]
    assert [row["step"] for row in rows] == [3, 6]
    for row in rows:
        address = tmp_path / f"scored@{row['step']}"
        metrics = evaluate(
            address, "digits", ["fid", "nll"], features="pixels", n=150, device="cpu"
        )["metrics"]
        for key, value in as_row(metrics).items():
            assert row[key] == pytest.approx(value, rel=1e-5), key
