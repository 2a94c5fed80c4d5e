"""A power loss: what is said to be written has its name on the disk too, and so has its folder."""

from __future__ import annotations

import os

from fatal import Fatal

from genctl.config.load import load_config
from genctl.engine import checkpoint, run_directory
from genctl.engine.durable import make_folders, write_atomically
from genctl.engine.run_directory import RunDirectory

CONFIG = load_config("quickstart")


def synced(monkeypatch, work):
    """The calls of the work, with the name of every folder that was synced."""
    opened = {}
    with monkeypatch.context() as patch:
        fatal = Fatal(patch, 10_000)
        guarded = {name: getattr(os, name) for name in ("open", "fsync", "close")}

        def open_(path, *arguments, **more):
            descriptor = guarded["open"](path, *arguments, **more)
            opened[descriptor] = str(path)
            return descriptor

        def fsync(descriptor):
            guarded["fsync"](descriptor)
            fatal.calls[-1] = ("fsync", opened.get(descriptor, ""))

        patch.setattr(os, "open", open_)
        patch.setattr(os, "fsync", fsync)
        work()
        return [(call[0], str(call[-1])) for call in fatal.calls]


def test_a_run_that_was_begun_outlives_a_power_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "environment", dict)
    run = tmp_path / "deep/runs/run"
    directory = RunDirectory(run)

    def first():
        (directory.checkpoints / "step-00000000").mkdir()
        checkpoint.sync_folder(directory.checkpoints)

    calls = synced(monkeypatch, lambda: directory.create(CONFIG, first))
    begun = calls.index(("replace", str(run / "config.yaml")))
    for made in (run, run.parent, run.parent.parent, run / "checkpoints", run / "samples"):
        last = ("fsync", str(made.parent))
        assert last in calls[:begun], f"the name of {made} before that of the configuration"
    assert ("fsync", str(run)) in calls[begun:], "and the configuration's own"


def test_a_new_file_outlives_one_too(tmp_path, monkeypatch):
    calls = synced(monkeypatch, lambda: write_atomically(tmp_path / "x.json", "{}"))
    replaced = calls.index(("replace", str(tmp_path / "x.json")))
    assert ("fsync", str(tmp_path)) in calls[replaced:]


def test_folders_that_are_there_are_left_alone(tmp_path, monkeypatch):
    assert make_folders(tmp_path / "a/b", tmp_path / "a/c") == [
        tmp_path / name for name in ("a", "a/b", "a/c")
    ]
    calls = synced(monkeypatch, lambda: make_folders(tmp_path / "a/b"))
    assert not [call for call in calls if call[0] == "fsync"]
