"""The examples run as they stand."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genctl import registry

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(autouse=True)
def _registry_restored():
    registry.discover()
    before = dict(registry._entries)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_examples_were_found():
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == {
        "train_from_python.py",
        "your_own_objective.py",
        "your_own_model.py",
        "ensemble.py",
        "ci_pipeline.sh",
        "mode_collapse.yaml",
    }


def test_train_from_python(tmp_path):
    report = load("train_from_python").main(tmp_path)
    assert report["metrics"]["fd"]["value"] > 0
    assert report["features"] == "pixels"


def test_your_own_objective(tmp_path):
    last = load("your_own_objective").main(tmp_path)
    assert last["step"] == 30
    assert "loss/generator" in last


def test_your_own_model(tmp_path):
    model = load("your_own_model").main(tmp_path)
    assert model.latent_dim == 2
    assert (tmp_path / "run/samples").is_dir()


def test_an_ensemble_errs_less_than_its_members_do_on_average(tmp_path):
    alone, together = load("ensemble").main(tmp_path)
    assert len(alone) == 3
    assert together <= sum(alone) / 3


def test_the_pipeline_passes_and_its_gate_fails_with_3(tmp_path):
    script = tmp_path / "bin/genctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m genctl "$@"\n')
    script.chmod(0o755)
    root = str(EXAMPLES.parent)
    environment = {
        **os.environ,
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": root,
        "STEPS": "40",
    }
    pipeline = (EXAMPLES / "ci_pipeline.sh").read_text()
    for gate, code in (("fd<20", 0), ("fd<0.001", 3)):
        path = tmp_path / "pipeline.sh"
        path.write_text(pipeline.replace("fd<20", gate))
        done = subprocess.run(
            ["bash", str(path), str(tmp_path / "run")],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
    scores = json.loads((tmp_path / "run/reports/scores.json").read_text())
    assert [gate["met"] for gate in scores["gates"]] == [False, True]


def test_the_laboratory_is_a_study_of_both_loops():
    from genctl.study.plan import read_study

    study = read_study(EXAMPLES / "mode_collapse.yaml")
    assert {sweep.x for sweep in study.sweeps} == {"modes", "manifold"}
    assert {trial.entry for trial in study.trials} == {"D-inner", "G-inner"}
    assert study.file.seeds == [0, 1, 2]
