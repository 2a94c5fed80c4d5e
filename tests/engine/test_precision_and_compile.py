"""Number formats and compilation change how fast a run is, not what it is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.engine import precision
from genctl.engine.compilation import compile_networks, decide
from genctl.engine.construction import begin, build
from genctl.engine.device import pick_device
from genctl.engine.fit import complete, fit, open_data
from genctl.engine.progress import Silent
from genctl.engine.run import open_run
from genctl.errors import UsageError

LENGTH = {"train__steps": 5}


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return torch.tensor([[v for k, v in row.items() if k.startswith("loss/")] for row in rows])


@pytest.mark.parametrize("preset", ["quickstart", "vae", "pixelcnn"])
def test_bf16_follows_fp32(preset, tmp_path, device):
    for name in ("fp32", "bf16"):
        config = small(preset, train__precision=name, **LENGTH)
        fit(config, None, tmp_path / name, device=device)
    exact, rounded = losses(tmp_path / "fp32"), losses(tmp_path / "bf16")
    assert torch.allclose(exact, rounded, rtol=0.05)
    assert not torch.equal(exact, rounded), "bf16 was not used"
    weights = open_run(tmp_path / "bf16").model.state_dict().values()
    assert all(w.dtype != torch.bfloat16 for w in weights), "weights stay in float32"


def test_the_resolved_precision_is_recorded(tmp_path):
    fit(small("vae", train__precision="auto"), None, tmp_path / "run", device="cpu")
    assert open_run(tmp_path / "run", "cpu").config.train.precision in ("fp32", "bf16")


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="fp16"):
        precision.pick_precision("fp16", torch.device("cpu"))


@pytest.mark.parametrize("graphs", [False, True])
def test_compiled_networks_train_alike(graphs, monkeypatch):
    """The eager backend runs dynamo's capture, in training and frozen calls, without a compiler."""
    seen, marks = [], []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    for compiled in (False, True):
        config = small("quickstart", **LENGTH)
        data = open_data(config, None)
        config = complete(config, data, None, torch.device("cpu"))
        training = build(config, data, torch.device("cpu"))
        if compiled:
            names = compile_networks(training.model, "eager", graphs)
            assert names == ["discriminator", "generator"]
            training.update.graphs = graphs
        begin(training, None)
        for step in (1, 2):
            training.update.begin_step(step, True)
            training.model.training_step(training.loader, training.update)
        seen.append(training.update.window.read())
        assert not any("_orig_mod" in key for key in training.model.state_dict())
    assert len(marks) == (4 if graphs else 0), "one for each update of the two steps"
    assert seen[0].keys() == seen[1].keys()
    for key, value in seen[0].items():
        assert seen[1][key] == pytest.approx(value, rel=1e-4), key


@pytest.mark.parametrize(
    ("wanted", "device", "compiled", "word"),
    [
        ("auto", "cpu", False, "no step faster"),
        (False, "cpu", False, "as asked"),
        (True, "cpu", True, "may not earn it back"),
        (True, "mps", False, "no compiler"),
        ("auto", "cuda", False, "not yet measured"),
        (True, "cuda", True, "on, as asked"),
        ("graphs", "cuda", True, "with CUDA graphs, as asked"),
        ("graphs", "cpu", False, "records no graphs"),
    ],
)
def test_whether_to_compile_is_decided_and_explained(wanted, device, compiled, word):
    found, why = decide(wanted, torch.device(device), 100)
    assert (found, word in why) == (compiled, True), why


def test_the_log_says_what_was_decided(tmp_path):
    said = []

    class Listener(Silent):
        def note(self, text):
            said.append(text)

    fit(small("vae"), None, tmp_path / "run", device="cpu", report=Listener())
    assert [text for text in said if "torch.compile off: on a CPU" in text]


def test_a_deterministic_run_needs_nothing_of_the_command_line(monkeypatch):
    """cuBLAS reads its setting once, at the first product of the process, of any run."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    pick_device("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    config = small("vae", train__deterministic=True)
    data = open_data(config, None)
    config = complete(config, data, None, torch.device("cpu"))
    try:
        build(config, data, torch.device("cpu"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_run_sets_the_number_format_for_its_own_work_only():
    before = torch.get_float32_matmul_precision()
    with precision.computing(torch.device("cpu"), "tf32"):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        with precision.computing(torch.device("cpu"), "fp32"):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("told", ["LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"])
def test_processes_of_a_machine_have_a_gpu_each(told, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    launched = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for name, word in {**launched, told: "1"}.items():
        monkeypatch.setenv(name, word)
    assert pick_device("cuda") == torch.device("cuda", 1)
    with monkeypatch.context() as bound:  # each process sees one, by srun --gpus-per-task=1
        bound.setenv("CUDA_VISIBLE_DEVICES", "3")
        assert pick_device("cuda") == torch.device("cuda", int(told == "LOCAL_RANK"))
    with pytest.raises(UsageError, match="would all use this one"):
        pick_device("cuda:0")
