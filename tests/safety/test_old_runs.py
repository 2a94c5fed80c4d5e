"""A run of every checkpoint format that ever was must load for ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from genctl.engine import checkpoint
from genctl.engine.fit import fit
from genctl.engine.run import open_run
from genctl.engine.run_directory import RunDirectory

FIXTURES = Path(__file__).parent.parent / "fixtures"
FIRST_SAMPLES = {
    1: [[0.51928353, -0.07699878], [0.20476282, 0.16615376], [1.0766308, 0.28224152]],
}


def test_every_format_has_a_stored_run():
    found = sorted(path.name for path in FIXTURES.glob("run-schema-*"))
    assert found == [f"run-schema-{n}" for n in range(1, checkpoint.SCHEMA + 1)]


@pytest.mark.parametrize("schema", FIRST_SAMPLES)
def test_an_old_run_is_sampled_and_goes_on(schema, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(FIXTURES / f"run-schema-{schema}", run, symlinks=True)
    state = json.loads((run / "checkpoints/latest/state.json").read_text())
    assert state["schema"] == schema
    opened = open_run(run, "cpu")
    assert (opened.step, opened.weights) == (25, "averaged")
    expected = torch.tensor(FIRST_SAMPLES[schema])
    assert torch.allclose(opened.sample(3, seed=0), expected, atol=1e-5)
    config = RunDirectory(run).config()
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 30})})
    result = fit(longer, None, run, device="cpu", resume="latest")
    assert (result.step, result.images, result.stopped_by) == (30, 480, "steps")
    assert open_run(run, "cpu").step == 30
