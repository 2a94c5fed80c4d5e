"""Sampling and evaluation give several processes the same result as one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import to_yaml
from genctl.engine import distributed
from genctl.engine.fit import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharing") / "run"
    fit(small("vae"), None, folder, device="cpu")
    return folder


def both(words, tmp_path):
    """The command by two processes and by one."""
    cache = {"GENCTL_CACHE": str(tmp_path / "cache")}
    two = ranks.start([*ranks.COMMAND, *words("two")], 2, **cache)
    one = ranks.start([*ranks.COMMAND, *words("one")], 1, **cache)
    results = [*ranks.finish(two), *ranks.finish(one)]
    assert [code for code, _, _ in results] == [0, 0, 0], results
    assert results[1][1] == "", "the second process says nothing"
    return json.loads(results[0][1]), json.loads(results[2][1])


def test_samples_are_bit_for_bit_those_of_one_process(run, tmp_path):
    def words(which):
        out = str(tmp_path / f"{which}.npz")
        return ["sample", str(run), "-n", "150", "--out", out, "--device", "cpu", "--json"]

    both(words, tmp_path)
    one, two = (np.load(tmp_path / f"{which}.npz")["images"] for which in ("one", "two"))
    assert len(one) == 150
    assert np.array_equal(one, two)


def test_an_evaluation_has_the_numbers_of_one_process(run, tmp_path):
    """Features of both sides, a lower bound and its noise, in batches that do not divide evenly."""

    def words(which):
        asked = ["--fid", "--kid", "--nll", "-n", "330", "--batch-size", "64", "--device", "cpu"]
        out = ["--out", str(tmp_path / f"{which}.json"), "--json"]
        return ["evaluate", str(run), "digits", "--features", "pixels", *asked, *out]

    two, one = both(words, tmp_path)
    assert two["metrics"].keys() == {"fd", "kid", "nll"}
    for key, entry in one["metrics"].items():
        for name, value in entry.items():
            found = two["metrics"][key][name]
            assert found == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
    assert two["n_generated"] == one["n_generated"] == 330
    assert json.loads((tmp_path / "two.json").read_text())["metrics"] == two["metrics"]


def test_pieces_are_put_together_in_order():
    pieces = [torch.arange(3.0), torch.arange(3.0, 5.0)]
    whole = distributed.in_turns(pieces, [3, 2], torch.empty(0))
    assert whole.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_two_launchers_with_a_tcp_rendezvous_train_one_run(tmp_path):
    """What two machines would run, on one: a launcher each, met at an address."""
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(small("quickstart", train__steps=4)))
    environment = ranks.environments(1)[0]
    port = environment["MASTER_PORT"]
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        del environment[name]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    train = ["-m", "genctl", "train", "--preset", str(file), "--out", str(tmp_path / "run")]
    started = [
        subprocess.Popen(
            [*launcher, *meet, f"--node-rank={node}", *train, "--device", "cpu", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in (0, 1)
    ]
    results = ranks.finish(started)
    assert [code for code, _, _ in results] == [0, 0], results
    [found] = [json.loads(out) for _, out, _ in results if out]
    assert (found["step"], found["stopped_by"]) == (4, "steps")
    state = json.loads((tmp_path / "run/checkpoints/latest/state.json").read_text())
    assert state["ranks"] == 2
