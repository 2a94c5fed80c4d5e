"""A death at every single call to the operating system that writing a checkpoint makes.

Random kills rarely hit the instants between two renames; here each is tried.
"""

from __future__ import annotations

import os

import pytest
import torch
from fatal import Fatal, deaths

from genctl.engine import checkpoint
from genctl.engine.checkpoint import Checkpoint
from genctl.engine.log import MetricsFile
from genctl.errors import DataError

STATE = {
    **{key: {} for key in ("players", "window", "average_images", "extra")},
    **{"images": 4, "seconds": 0.1, "position": 4, "ordinary": [], "final_row": None},
    "generators": {"python": [3, [1] * 625, None], "numpy": ["MT19937", [1] * 624, 624, 0, 0.0]},
}


def make(step, value):
    tensors = {"generator/cpu": torch.zeros(8, dtype=torch.uint8)}
    return Checkpoint(step, {"w": torch.ones(4)}, {}, tensors, {**STATE, "value": value})


def values(folder):
    """What every checkpoint that can be found holds; each must be whole."""
    found = {}
    for step in checkpoint.steps(folder):
        read = checkpoint.read(checkpoint.locate(folder, str(step)))
        assert read.step == step
        found[step] = read.state["value"]
    return found


def leftovers(folder):
    return [path.name for path in folder.glob(".tmp-*")]


def test_a_new_checkpoint_is_there_or_not_and_nothing_else_changes(tmp_path, monkeypatch):
    def prepare():
        for step in (1, 2):
            checkpoint.write(tmp_path / "c", make(step, step))

    def work():
        checkpoint.write(tmp_path / "c", make(3, 3))

    seen = set()
    for lives, calls in deaths(monkeypatch, tmp_path / "c", prepare, work):
        found = values(tmp_path / "c")
        assert found in ({1: 1, 2: 2}, {1: 1, 2: 2, 3: 3}), (lives, calls)
        newest = checkpoint.read(checkpoint.locate(tmp_path / "c"))
        assert newest.step == max(found)
        assert (tmp_path / "c/latest/state.json").exists(), "the link never points to nothing"
        seen.add((len(found), bool(leftovers(tmp_path / "c"))))
        checkpoint.prune(tmp_path / "c", 0)
        assert not leftovers(tmp_path / "c")
        assert values(tmp_path / "c") == found
    assert seen == {(2, False), (2, True), (3, False), (3, True)}


def test_the_next_write_frees_what_a_killed_one_filled(tmp_path, monkeypatch):
    """Before it writes: the leftover may be all that fills the disk."""
    checkpoint.write(tmp_path, make(1, 1))
    (tmp_path / ".tmp-step-00000002-1").mkdir()
    real = checkpoint._write_synced

    def watching(path, content):
        assert not (tmp_path / ".tmp-step-00000002-1").exists()
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write_synced", watching)
    checkpoint.write(tmp_path, make(2, 2))
    assert values(tmp_path) == {1: 1, 2: 2}


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, make(1, 1))
    with monkeypatch.context() as patch:
        fatal = Fatal(patch, 1000)
        checkpoint.write(tmp_path, make(2, 2))
    names = [call[0] for call in fatal.calls]
    renamed = names.index("rename")
    files = len(checkpoint.FILES) + 1
    assert names[:renamed].count("create") == files
    assert names[:renamed].count("fsync") == files + 1  # and the folder
    last_write = max(i for i, name in enumerate(names[:renamed]) if name == "write")
    assert "fsync" in names[last_write:renamed]
    assert "fsync" in names[names.index("replace") :], "the new names too"


def test_the_same_step_again(tmp_path, monkeypatch):
    """Never half of one and half of the other; for an instant the one before is the newest."""

    def prepare():
        for step in (1, 2):
            checkpoint.write(tmp_path / "c", make(step, step))

    outcomes = set()
    for lives, calls in deaths(
        monkeypatch,
        tmp_path / "c",
        prepare,
        lambda: checkpoint.write(tmp_path / "c", make(2, "new")),
    ):
        found = values(tmp_path / "c")
        assert found[1] == 1
        assert set(found) <= {1, 2}, (lives, calls)
        outcomes.add(found.get(2))
        checkpoint.read(checkpoint.locate(tmp_path / "c"))
    assert outcomes == {2, None, "new"}


def test_pruning(tmp_path, monkeypatch):
    def prepare():
        for step in range(5):
            checkpoint.write(tmp_path / "c", make(step, step))
        (tmp_path / "c/.tmp-step-00000009-1").mkdir()

    for lives, calls in deaths(
        monkeypatch, tmp_path / "c", prepare, lambda: checkpoint.prune(tmp_path / "c", 2)
    ):
        found = values(tmp_path / "c")
        assert {3: 3, 4: 4}.items() <= found.items(), (lives, calls)
        checkpoint.prune(tmp_path / "c", 2)
        assert values(tmp_path / "c") == {3: 3, 4: 4}
        assert not leftovers(tmp_path / "c")


def test_going_back(tmp_path, monkeypatch):
    """Dropping the later ones: what is left is a run that ends at one of them."""

    def prepare():
        for step in range(1, 6):
            checkpoint.write(tmp_path / "c", make(step, step))

    for lives, calls in deaths(
        monkeypatch, tmp_path / "c", prepare, lambda: checkpoint.drop_after(tmp_path / "c", 2)
    ):
        found = values(tmp_path / "c")
        last = max(found)
        assert last >= 2
        assert found == {step: step for step in range(1, last + 1)}, (lives, calls)
        assert checkpoint.locate(tmp_path / "c").name == f"step-{last:08d}"
        assert checkpoint.drop_after(tmp_path / "c", 2) == list(range(3, last + 1))
        assert values(tmp_path / "c") == {1: 1, 2: 2}
        assert os.readlink(tmp_path / "c/latest") == "step-00000002"


def test_cutting_the_log(tmp_path, monkeypatch):
    """The old log or the cut one; the rows up to the step are in both."""
    log = MetricsFile(tmp_path / "c/metrics.jsonl")

    def prepare():
        (tmp_path / "c").mkdir()
        for step in range(1, 9):
            log.append({"step": step})
        with log.path.open("a") as file:
            file.write('{"step": 9, "los')

    old = "".join(f'{{"step": {step}}}\n' for step in range(1, 9)) + '{"step": 9, "los'
    new = "".join(f'{{"step": {step}}}\n' for step in range(1, 6))
    for lives, calls in deaths(monkeypatch, tmp_path / "c", prepare, lambda: log.cut(5)):
        assert log.path.read_text() in (old, new), (lives, calls)
        log.cut(5)
        assert log.path.read_text() == new


@pytest.mark.parametrize("broken", ["state.json", "weights.safetensors"])
def test_a_broken_newest_checkpoint_is_refused_and_names_the_one_before(tmp_path, broken):
    """Not what a kill does, but a disk can: never silently an older state."""
    for step in (1, 2):
        checkpoint.write(tmp_path / "c", make(step, step))
    path = tmp_path / "c/step-00000002" / broken
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        checkpoint.read(checkpoint.locate(tmp_path / "c"))
    assert caught.value.remedy.endswith("@1")
