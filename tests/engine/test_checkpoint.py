"""Checkpoints: atomic, verified, addressed, pruned."""

from __future__ import annotations

import json
import os

import pytest
import torch

from genctl.engine import checkpoint
from genctl.engine.checkpoint import Checkpoint
from genctl.engine.pointers import point
from genctl.errors import DataError, NonFiniteError

STATE = {
    "images": 4,
    "seconds": 0.1,
    "position": 4,
    "players": {},
    "window": {},
    "ordinary": [],
    "average_images": {},
    "final_row": None,
    "extra": {},
    "generators": {
        "python": [3, [1] * 625, None],
        "numpy": ["MT19937", [1] * 624, 624, 0, 0.0],
    },
    "unknown to this version": [1, 0.1],
}


def make(step, value=1.0):
    weights = {"w": torch.full((3, 2), value), "k": torch.tensor(3)}
    others = {"m/0": torch.ones(1), "generator/cpu": torch.get_rng_state()}
    return Checkpoint(step, weights, {"w": torch.zeros(3, 2)}, others, STATE)


def test_round_trip(tmp_path):
    path = checkpoint.write(tmp_path, make(12))
    found = checkpoint.read(path)
    assert path.name == "step-00000012"
    assert found.step == 12
    assert found.state == STATE
    assert torch.equal(found.weights["w"], torch.ones(3, 2))
    assert found.weights["k"].dtype == torch.int64
    link = tmp_path / "latest"
    assert link.is_symlink()
    assert not os.path.isabs(os.readlink(link))


def test_two_writes_of_one_state_are_the_same_bytes(tmp_path):
    """No clock time in the tensors."""
    a, b = checkpoint.write(tmp_path / "a", make(1)), checkpoint.write(tmp_path / "b", make(1))
    for name in (*(f"{f}.safetensors" for f in checkpoint.FILES), "state.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "averaged.safetensors", "optimisers.safetensors", "state.json"]
)
@pytest.mark.parametrize("where", [0.1, 0.5, 0.95])
def test_one_changed_byte_is_found_and_another_checkpoint_named(tmp_path, name, where):
    checkpoint.write(tmp_path / "checkpoints", make(1))
    path = checkpoint.write(tmp_path / "checkpoints", make(2))
    content = bytearray((path / name).read_bytes())
    content[int(len(content) * where)] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        checkpoint.read(path)
    assert "damaged" in caught.value.reason
    assert caught.value.remedy.endswith("@1")


def test_non_finite_weights_are_never_written(tmp_path):
    checkpoint.write(tmp_path, make(1))
    with pytest.raises(NonFiniteError):
        checkpoint.write(tmp_path, make(2, float("nan")))
    assert checkpoint.steps(tmp_path) == [1]
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, make(1))
    real = checkpoint._write_synced

    def full(path, content):
        if path.name == "state.json":
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write_synced", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(tmp_path, make(2))
    assert checkpoint.steps(tmp_path) == [1]
    assert checkpoint.read(checkpoint.locate(tmp_path)).step == 1
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []


def test_killed_between_rename_and_link_the_newest_still_counts(tmp_path):
    checkpoint.write(tmp_path, make(1))
    (tmp_path / "latest").unlink()
    checkpoint.write(tmp_path, make(2))
    (tmp_path / "latest").unlink()
    assert checkpoint.locate(tmp_path).name == "step-00000002"


def test_addresses(tmp_path):
    folder = tmp_path / "checkpoints"
    with pytest.raises(DataError, match="no checkpoint"):
        checkpoint.locate(folder)
    for step in (0, 10, 20):
        checkpoint.write(folder, make(step))
    assert checkpoint.locate(folder, "10").name == "step-00000010"
    assert checkpoint.locate(folder).name == "step-00000020"
    with pytest.raises(DataError, match="it has 0, 10, 20"):
        checkpoint.locate(folder, "15")
    with pytest.raises(DataError, match="no best"):
        checkpoint.locate(folder, "best")


def test_pruning_keeps_the_last_and_what_is_pointed_to(tmp_path):
    for step in range(6):
        checkpoint.write(tmp_path, make(step))
    point(tmp_path, "best", tmp_path / "step-00000001")
    (tmp_path / ".tmp-step-00000009-1").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert checkpoint.steps(tmp_path) == [1, 4, 5]
    assert not list(tmp_path.glob(".tmp-*"))
    checkpoint.prune(tmp_path, 0)
    assert checkpoint.steps(tmp_path) == [1, 4, 5]


def test_going_back_drops_what_came_later(tmp_path):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, make(step))
    assert checkpoint.drop_after(tmp_path, 2) == [3]
    assert checkpoint.locate(tmp_path).name == "step-00000002"


def test_a_newer_schema_is_refused(tmp_path):
    path = checkpoint.write(tmp_path, make(1))
    state = json.loads((path / "state.json").read_text())
    state.pop("checksum")
    state["schema"] = 99
    state["checksum"] = checkpoint._checksum(state)
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="newer"):
        checkpoint.read(path)


def test_a_reader_of_a_run_that_goes_on_gets_its_newest(tmp_path, monkeypatch):
    """With one kept, what was located is removed before it is read; or while it is."""
    checkpoint.write(tmp_path, make(0))
    read, located = checkpoint.read, []

    def late(path):
        located.append(path)
        if len(located) <= 2:
            checkpoint.write(tmp_path, make(len(located)))
            checkpoint.prune(tmp_path, 1)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "read", late)
        assert checkpoint.find(tmp_path).step == 2
        assert len(located) == 3
    state_of = checkpoint._state_of

    def slow(path, file):
        checkpoint.write(tmp_path, make(3))
        checkpoint.prune(tmp_path, 1)
        return state_of(path, file)

    monkeypatch.setattr(checkpoint, "_state_of", slow)
    assert checkpoint.find(tmp_path).step == 2, "what is open can be read to its end"
    assert checkpoint.steps(tmp_path) == [3]


def test_a_damaged_checkpoint_is_not_looked_for_again(tmp_path, monkeypatch):
    path = checkpoint.write(tmp_path, make(1))
    (path / "weights.safetensors").write_bytes(b"x")
    read, calls = checkpoint.read, []

    def counting(path):
        calls.append(path)
        return read(path)

    monkeypatch.setattr(checkpoint, "read", counting)
    with pytest.raises(DataError, match="damaged"):
        checkpoint.find(tmp_path)
    assert len(calls) == 1
    with pytest.raises(DataError, match="no such step"):
        checkpoint.find(tmp_path, "7")
