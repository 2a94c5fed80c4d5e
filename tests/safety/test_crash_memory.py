"""Out of memory: the run ends with the batch that would fit, or begins with it if asked."""

from __future__ import annotations

import gc
import json
import resource
import sys
import weakref

import pytest
import torch
from campaign import assert_equal_runs, configuration

from genctl.config.load import load_config, to_yaml, with_overrides
from genctl.engine import memory
from genctl.engine.ending import Ending, ending_of
from genctl.engine.fit import fit
from genctl.engine.run_directory import RunDirectory
from genctl.errors import OutOfMemoryError
from genctl.models.latent_variable import LatentVariableModel


def limited(limit, error=torch.OutOfMemoryError):
    """A trial, or the batch of a model, that fits up to a limit."""

    def trial(batch_size):
        if batch_size > limit:
            raise error("out of memory: asked for too much")

    return trial


@pytest.fixture
def small_machine(monkeypatch):
    """``small_machine(5)``: no model computes more than 5 examples at a time."""
    original = LatentVariableModel.training_step

    def shrink(limit, error=torch.OutOfMemoryError, from_step=1):
        def training_step(self, batches, update):
            if update.step >= from_step:
                limited(limit, error)(update.batch_size)
            return original(self, batches, update)

        monkeypatch.setattr(LatentVariableModel, "training_step", training_step)

    return shrink


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory is what this message is about"), False),
        (KeyError("memory"), False),
    ],
)
def test_it_is_recognised(error, expected):
    assert memory.is_out_of_memory(error) is expected


@pytest.mark.parametrize(("limit", "found"), [(100, 8), (8, 8), (7, 4), (3, 2), (1, 1), (0, None)])
def test_the_largest_half_that_fits_is_found(limit, found):
    assert memory.largest_fitting(limited(limit), memory.halves(17)) == found


def test_a_batch_too_small_for_something_else_ends_the_search():
    def trial(batch_size):
        limited(3)(batch_size)
        raise ValueError("expected more than one value per channel")

    assert memory.largest_fitting(trial, memory.halves(8)) is None


def test_what_the_failed_step_held_is_let_go():
    """Its frames hold every activation; the trial must have their memory."""
    held = []

    def step():
        activations = torch.zeros(8)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("no more")

    def trial(batch_size):
        gc.collect()
        assert held[0]() is None

    config = configuration("latent variable", 2)
    try:
        step()
    except torch.OutOfMemoryError as error:
        assert held[0]() is not None
        found = memory.explained(error, config, trial)
    assert found.reason == "not enough for batches of 8; 4 fits"


@pytest.mark.parametrize(
    ("limit", "fits", "error"),
    [(7, "4 fits", torch.OutOfMemoryError), (0, "nor for any", MemoryError)],
)
def test_a_training_that_runs_out_says_what_would_fit(tmp_path, small_machine, limit, fits, error):
    small_machine(limit, error)
    with pytest.raises(OutOfMemoryError) as caught:
        fit(configuration("latent variable", 4), None, tmp_path / "run", device="cpu")
    assert caught.value.exit_code == 1
    assert caught.value.reason.startswith("not enough for batches of 8")
    assert fits in caught.value.reason
    if limit:
        assert f"--batch-size {fits[0]}" in caught.value.remedy


def test_later_too_and_the_run_goes_on_from_its_checkpoint(tmp_path, small_machine, monkeypatch):
    config = with_overrides(configuration("latent variable", 9), {"train.checkpoint_every": 2})
    fit(config, None, tmp_path / "whole", device="cpu")
    small_machine(4, from_step=6)
    with pytest.raises(OutOfMemoryError, match="not enough"):
        fit(config, None, tmp_path / "run", device="cpu")
    assert ending_of(RunDirectory(tmp_path / "run")) == Ending("memory", 5)
    small_machine(4, KeyError, from_step=6)
    with pytest.raises(KeyError):
        fit(config, None, tmp_path / "run", device="cpu", resume="latest")
    assert ending_of(RunDirectory(tmp_path / "run")) == Ending("error", 5)
    monkeypatch.undo()
    fit(config, None, tmp_path / "run", device="cpu", resume="latest")
    assert ending_of(RunDirectory(tmp_path / "run")) == Ending("steps", 9)
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_halving_is_only_done_if_asked_and_equals_a_run_with_that_batch(tmp_path, small_machine):
    config = configuration("latent variable", 5)
    fit(
        with_overrides(config, {"train.batch_size": 2, "train.on_out_of_memory": "halve"}),
        None,
        tmp_path / "whole",
        device="cpu",
    )
    small_machine(3)
    asked = with_overrides(config, {"train.on_out_of_memory": "halve"})
    fit(asked, None, tmp_path / "run", device="cpu")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")
    for name in ("whole", "run"):
        assert load_config(tmp_path / name / "config.yaml").train.batch_size == 2


def test_the_same_command_resumes_a_halved_run(tmp_path, small_machine, capsys):
    from genctl.cli.main import main

    small_machine(3)
    file = tmp_path / "small.yaml"
    config = configuration("latent variable", 5)
    file.write_text(to_yaml(with_overrides(config, {"train.on_out_of_memory": "halve"})))
    words = ["train", "--preset", str(file), "--out", str(tmp_path / "run"), "--resume-or-start"]
    assert main([*words, "--device", "cpu", "--steps", "2"]) == 0
    assert "batches of 8: 2 instead" in capsys.readouterr().err
    assert main([*words, "--device", "cpu", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 10


def test_nothing_fits_even_halved(tmp_path, small_machine):
    small_machine(0)
    asked = with_overrides(configuration("latent variable", 5), {"train.on_out_of_memory": "halve"})
    with pytest.raises(OutOfMemoryError, match="nor for any smaller"):
        fit(asked, None, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_another_error_is_not_taken_for_it(tmp_path, small_machine):
    small_machine(3, ZeroDivisionError)
    for key in ("stop", "halve"):
        config = with_overrides(
            configuration("latent variable", 5), {"train.on_out_of_memory": key}
        )
        with pytest.raises(ZeroDivisionError):
            fit(config, None, tmp_path / key, device="cpu")


def test_with_an_address_space_that_is_too_small(server, tmp_path):
    """Not a made-up exception: the allocator itself refuses."""
    words = ["train", "--preset", "gan-ring", "--device", "cpu", "--quiet", "--steps", 2]
    words += ["--set", "evaluate.measures=[]", "--set", "log.preview_every=0"]
    limit = ["limit_memory", 30]
    code, out, err = server.run(
        *words, "--out", tmp_path / "a", "--batch-size", 2**16, "--json", prelude=limit
    )
    assert code == 1, err
    error = json.loads(out)["error"]
    assert error["thing"] == "memory"
    size = int(error["remedy"].split("--batch-size ")[1].split()[0])
    assert 64 <= size < 2**16
    code, _, err = server.run(*words, "--out", tmp_path / "b", "--batch-size", size, prelude=limit)
    assert code == 0, err


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_a_trial_on_the_processor_is_bounded_by_addresses(device):
    """CUDA reserves addresses for all of its memory: with a bound it would not even start."""
    free = resource.getrlimit(resource.RLIMIT_AS)
    with memory._no_more_than_there_is(torch.device(device)):
        bounded = resource.getrlimit(resource.RLIMIT_AS) != free
    assert bounded == (device == "cpu" and sys.platform.startswith("linux"))
    assert resource.getrlimit(resource.RLIMIT_AS) == free
