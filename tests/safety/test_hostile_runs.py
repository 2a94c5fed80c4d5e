"""A run directory from elsewhere: what is resumed from it is checked, and it writes nowhere else."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import contract_errors, fuzz, spoiled
from safetensors.torch import load, save
from test_fuzz_runs import SMALL, STATE, STORED, TENSORS, put, whole

from genctl.cli.main import main
from genctl.config.load import read_yaml
from genctl.data.dataset import open_dataset
from genctl.engine import checkpoint
from genctl.engine.construction import build
from genctl.engine.state import restore
from genctl.errors import DataError

RESUME = ["--steps", "26", "--device", "cpu", "--quiet"]


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run"
    shutil.copytree(STORED, path, symlinks=True)
    return path


@pytest.mark.parametrize(
    "name", [".lock", "metrics.jsonl", "environment.json", "samples", "reports", "checkpoints"]
)
def test_a_link_out_of_a_run_is_not_written_through(name, run, tmp_path, capsys):
    victim = tmp_path / "victim"
    place = run / name
    if name in ("samples", "reports", "checkpoints"):
        victim.mkdir()
        if name == "checkpoints":
            shutil.copytree(place, victim, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(place)
    else:
        victim.write_text("precious")
        place.unlink(missing_ok=True)
    before = {p: p.stat().st_mtime_ns for p in [victim, *victim.rglob("*")]}
    place.symlink_to(victim)
    assert main(["train", "--resume", str(run), *RESUME]) == 4
    assert "leads out of the run" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in [victim, *victim.rglob("*")]} == before


@pytest.mark.parametrize(
    "name", [".config.yaml.tmp", ".metrics.jsonl.tmp", ".environment.json.tmp"]
)
def test_a_prepared_temporary_name_is_not_written_through(name, run, tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / name).symlink_to(victim)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 99}\n' + "[" * 100_000 + "\n")
    assert main(["train", "--resume", str(run), *RESUME]) == 0, capsys.readouterr().err
    assert victim.read_text() == "precious"


@pytest.fixture(scope="module")
def training():
    config, data = read_yaml(STORED / "config.yaml"), open_dataset("toy:ring")
    return lambda: build(config, data, torch.device("cpu"))


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "run"
    shutil.copytree(STORED, path, symlinks=True)
    return path


@fuzz(25)
@given(state=spoiled(SMALL).map(whole))
def test_states_of_malice_are_not_gone_on_with(shared_run, training, state):
    with contract_errors():
        restore(training(), checkpoint.read(put(shared_run, state=state)))


@fuzz(25)
@given(data=st.data())
def test_moments_of_malice_are_not_gone_on_with(shared_run, training, data):
    """The right tensors under the wrong names, or not there at all."""
    tensors = load(TENSORS["optimisers"])
    one, other = (data.draw(st.sampled_from(sorted(tensors))) for _ in range(2))
    how = data.draw(st.sampled_from(["swap", "rename", "drop", "cut", "kind"]))
    if how == "swap":
        tensors[one], tensors[other] = tensors[other].clone(), tensors[one].clone()
    elif how == "rename":
        tensors[one.replace("0", "9") + data.draw(st.sampled_from(["", "x"]))] = tensors.pop(one)
    elif how == "drop":
        del tensors[one]
    elif how == "cut":
        tensors[one] = tensors[one].flatten()[:-1].clone()
    else:
        tensors[one] = tensors[one].to(torch.int8)
    folder = put(shared_run, optimisers=save(tensors))
    with contract_errors():
        found = training()
        restore(found, checkpoint.read(folder))
        for player in found.update.players.values():  # what was taken can be stepped with
            for parameter in player.parameters:
                parameter.grad = torch.zeros_like(parameter)
            player.rule.optimiser.step()


def test_a_state_that_is_not_spoiled_is_gone_on_with(shared_run, training):
    found = training()
    restore(found, checkpoint.read(put(shared_run)))
    assert found.step == STATE["step"]


def test_a_tar_of_pickles_is_no_file_of_weights(tmp_path, capsys):
    """The oldest format of torch, which its safe reader does not know."""
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps({"a": 1})
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    words = ["evaluate", "--fid", str(tmp_path / "x.npz"), str(tmp_path / "x.npz")]
    for content in (
        None,
        b"s",
        b"\x80\x02}q\0.",
        b"",
        struct.pack("<Q", 2**60),
        json.dumps({}).encode(),
    ):
        if content is not None:
            (tmp_path / "w.pth").write_bytes(content)
        assert main([*words, "--inception-weights", str(tmp_path / "w.pth")]) == 5
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "environment.json", "config.yaml"])
def test_a_pipe_in_a_run_is_not_waited_for(name, run, capsys):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert main(["train", "--resume", str(run), *RESUME]) == 4
    assert "neither a file nor a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("metrics.jsonl", "not the log of a run"),
        ("checkpoints/step-00000025/weights.safetensors", "larger than"),
    ],
)
def test_a_file_that_promises_more_than_memory_is_not_read(name, why, run, capsys):
    """A hole of terabytes takes no space on a disk, and in an archive of a run hardly any."""
    os.truncate(run / name, 2**42)
    assert main(["train", "--resume", str(run), *RESUME]) == 4
    assert why in capsys.readouterr().err


SKIPPED = next(name for name in load(TENSORS["optimisers"]) if name.startswith("skipped/"))


@pytest.mark.parametrize("counts", [[0.0], [float("nan"), 0.0, 0.0], [0.0] * 4])
def test_counts_of_skips_are_three_numbers(counts, shared_run, training):
    tensors = {**load(TENSORS["optimisers"]), SKIPPED: torch.tensor(counts)}
    found = checkpoint.read(put(shared_run, optimisers=save(tensors)))
    with pytest.raises(DataError, match="no three counts"):
        restore(training(), found)


def test_sums_of_another_kind_are_gone_on_with(shared_run, training):
    """What a log window adds up is float, whatever a checkpoint calls it."""
    tensors = {
        **load(TENSORS["optimisers"]),
        "window/loss/discriminator": torch.tensor(3, dtype=torch.int8),
    }
    state = {**STATE, "window": {**STATE["window"], "loss/discriminator": 1}}
    found = training()
    restore(found, checkpoint.read(put(shared_run, state=state, optimisers=save(tensors))))
    found.update.window.add({"loss/discriminator": torch.tensor(2.0)})
    assert found.update.window.read()["loss/discriminator"] == 2.5
