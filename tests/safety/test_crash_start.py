"""A start that is killed before it is a run: it can be repeated, and nothing else is overwritten."""

from __future__ import annotations

import json

import pytest
from campaign import assert_equal_runs, configuration
from fatal import Death, deaths

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.engine import checkpoint, run_directory
from genctl.engine.fit import fit
from genctl.engine.pointers import point
from genctl.engine.progress import Silent
from genctl.engine.run_directory import RunDirectory
from genctl.errors import DataError, GenctlError, UsageError

CONFIG = load_config("quickstart")


class Told(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_killed_at_any_call_a_start_can_be_repeated(tmp_path, monkeypatch):
    """Once there is a config.yaml, there is a first checkpoint; before, the place is still free."""
    directory = RunDirectory(tmp_path / "parent/run")
    monkeypatch.setattr(run_directory, "environment", dict)  # which asks git, and takes its time

    def first():
        directory.checkpoints.mkdir(exist_ok=True)
        (directory.checkpoints / "step-00000000").mkdir()
        point(directory.checkpoints, "latest", directory.checkpoints / "step-00000000")

    def start():
        with directory.lock():
            directory.create(CONFIG, first)

    (tmp_path / "parent").mkdir()
    seen = set()
    for _ in deaths(monkeypatch, tmp_path / "parent", lambda: None, start):
        begun = directory.exists()
        seen.add(begun)
        if begun:
            assert checkpoint.steps(directory.checkpoints) == [0]
            assert directory.config() == CONFIG
        else:
            start()
            assert directory.config() == CONFIG
            assert checkpoint.steps(directory.checkpoints) == [0]
    assert seen == {False, True}, "the configuration's name is the last to appear, and then synced"


def test_a_fit_killed_before_its_first_checkpoint_is_no_run(tmp_path, monkeypatch):
    """With --init above all: a resume would begin at other weights than were asked for."""
    config = configuration("latent variable", 3)
    fit(config, None, tmp_path / "source", device="cpu")
    again = config.model_copy(update={"train": config.train.model_copy(update={"seed": 5})})
    fit(again, None, tmp_path / "whole", device="cpu", init=tmp_path / "source")

    def dying(folder, state):
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", dying)
        with pytest.raises(Death):
            fit(again, None, tmp_path / "run", device="cpu", init=tmp_path / "source")
    assert not RunDirectory(tmp_path / "run").exists()
    fit(again, None, tmp_path / "run", device="cpu", init=tmp_path / "source")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    "foreign",
    ["notes.txt", "samples/x.png", "reports/r.json", "checkpoints/step-00000010/state.json"],
)
def test_what_a_start_cannot_have_left_is_never_touched(tmp_path, foreign):
    directory = RunDirectory(tmp_path / "run")
    path = directory.path / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    (directory.path / "environment.json").write_text("{}")
    for attempt in (directory.refuse_if_taken, lambda: directory.create(CONFIG)):
        with pytest.raises(UsageError, match="not empty"):
            attempt()
    assert path.read_text() == "mine"


def unfinished(path):
    for name in ("checkpoints", "samples", "reports"):
        (path / name).mkdir(parents=True)
    (path / "environment.json").write_text("{}")
    (path / "checkpoints/.tmp-step-00000000-77").mkdir()


def test_commands_say_that_it_is_no_run_yet(tmp_path, capsys):
    unfinished(tmp_path / "run")
    for words in (["sample"], ["train", "--resume"]):
        assert main([*words, str(tmp_path / "run"), "--json"]) == 4
        error = json.loads(capsys.readouterr().out)["error"]
        assert "interrupted" in error["reason"]
        assert "again" in error["remedy"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no config"):
        RunDirectory(tmp_path / "empty").config()


def test_resume_or_start_starts_it(tmp_path, capsys):
    unfinished(tmp_path / "run")
    words = ["train", "--preset", "gan-ring", "--out", str(tmp_path / "run"), "--resume-or-start"]
    words += ["--steps", "2", "--device", "cpu", "--quiet", "--json", "--set"]
    assert main([*words, "evaluate.measures=[]"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert not list((tmp_path / "run/checkpoints").glob(".tmp*"))


def test_a_place_where_another_process_is_starting_is_left_alone(tmp_path):
    """Both found it free; the one with the lock has it."""
    directory = RunDirectory(tmp_path / "run")
    with directory.lock(), pytest.raises(UsageError, match="another process"):
        fit(configuration("latent variable", 2), None, tmp_path / "run", device="cpu")
    assert [path.name for path in directory.path.iterdir()] == [".lock"]
    fit(configuration("latent variable", 2), None, tmp_path / "run", device="cpu")


def test_a_resume_without_any_checkpoint(tmp_path):
    """Someone removed them: from the beginning, with a log of its own; but never a step unasked."""
    config = configuration("latent variable", 4)
    for name in ("whole", "run"):
        fit(config, None, tmp_path / name, device="cpu")
    for path in (tmp_path / "run/checkpoints").iterdir():
        path.unlink() if path.is_symlink() else path.rename(tmp_path / path.name)
    with pytest.raises(GenctlError, match="no checkpoint"):
        fit(config, None, tmp_path / "run", device="cpu", resume="2")
    before = (tmp_path / "run/metrics.jsonl").read_text()
    told = Told()
    fit(config, None, tmp_path / "run", device="cpu", resume="latest", report=told)
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")
    assert (tmp_path / "run/metrics-before-1.jsonl").read_text() == before
    assert any("begins again" in text and "metrics-before-1" in text for text in told.notes)
