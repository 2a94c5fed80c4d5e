"""What each of several processes says when it ends: the first for all, and each of its own death."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import ranks

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import to_yaml

DYING = """
import sys
from genctl.engine.launch import launched_rank
from genctl.engine.state import Training

advance = Training.advance

def dying(self, logging):
    if self.step == 9 and launched_rank() == {victim}:
        raise OSError(5, "Input/output error")
    advance(self, logging)

Training.advance = dying
from genctl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def words(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(to_yaml(small("gan-ring", train__steps=20, evaluate__measures=[])))
    return ["train", "--preset", str(file), "--device", "cpu", "--quiet"]


@pytest.mark.parametrize(("victim", "scripted"), [(0, True), (1, False)])
def test_who_dies_of_an_error_in_a_step_says_so(victim, scripted, words, tmp_path):
    command = [sys.executable, "-c", DYING.format(victim=victim), *words]
    command += ["--out", str(tmp_path / "run"), *(["--json"] if scripted else [])]
    results = ranks.finish(ranks.start(command), 120)
    assert [code for code, _, _ in results] == [1, 1], results
    _, out, err = results[victim]
    assert "Input/output error" in (out if scripted and not victim else err)
    if victim:
        assert err == "error: process 1: the system: Input/output error\n"
        assert out == ""
    assert "another process of this run died" in "".join(results[1 - victim][1:])


def test_what_all_know_of_is_said_once(words, tmp_path):
    """Found before any work, in the data, and by numbers that are equal everywhere."""
    for more, expected in (
        (["--set", "train.stepz=3"], 2),
        (["--resume", str(tmp_path / "nowhere")], 4),
        (["--set", "optim.generator.lr=1e30", "--steps", "200"], 6),
    ):
        out = [] if "--resume" in more else ["--out", str(tmp_path / f"run-{expected}")]
        command = [*ranks.COMMAND, *words, *more, *out]
        results = ranks.finish(ranks.start(command), 120)
        assert [code for code, _, _ in results] == [expected] * 2, results
        assert "error: " in results[0][2]
        assert results[1][1:] == ("", "")


def test_the_first_chooses_the_place_for_all(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "runs/gan-ring-1/config.yaml"
    taken.parent.mkdir(parents=True)
    taken.touch()
    results = ranks.finish(ranks.start([*ranks.COMMAND, *words]), 120)
    assert [code for code, _, _ in results] == [0, 0], results
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["gan-ring-1", "gan-ring-2"]
