"""Scores while training: no trace in the run, exact on resume, and the best is kept."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.config.load import load_config, to_yaml, with_overrides
from genctl.config.schema import EvaluateConfig, MeasureName
from genctl.engine import checkpoint
from genctl.engine import fit as engine
from genctl.engine.log import SCORES, MetricsFile
from genctl.engine.pointers import point
from genctl.engine.progress import Silent
from genctl.engine.scoring import Aim
from genctl.errors import CapabilityError, UsageError
from genctl.metrics.measure import table
from genctl.report.curves import of_training, read_curves
from genctl.report.diagnosis import diagnose
from genctl.report.evaluate import evaluate
from genctl.report.scores import RunScorer, as_row, fit

DRAWING = {
    "model__discriminator__dropout": 0.2,  # draws from the global generator
    "model__discriminator__noise": 0.1,
}
SCORED = {
    "evaluate__every": 4,
    "evaluate__measures": ["fid", "kid"],
    "evaluate__features": "pixels",
    "evaluate__n": 64,
    "evaluate__best": "fid",
}
NONE = {"evaluate__measures": []}


def config_of(**more):
    changes = {**DRAWING, "train__steps": 12, "log__every": 5, "train__keep": 0, **SCORED, **more}
    return small("quickstart", **changes)


def lines_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]


def scores_of(run):
    return [row for row in lines_of(run) if any(key.startswith(SCORES) for key in row)]


def log_of(run):
    return [row for row in lines_of(run) if row not in scores_of(run)]


def tensors_of(run, at="latest"):
    found = {}
    for name in ("weights", "averaged", "optimisers"):
        file = run / "checkpoints" / at / f"{name}.safetensors"
        found |= {f"{name}/{key}": value for key, value in load_file(file).items()}
    return found


def assert_equal_tensors(a, b):
    left, right = tensors_of(a), tensors_of(b)
    assert left.keys() == right.keys()
    assert len(left) > 3
    for key in left:
        assert torch.equal(left[key], right[key]), key


class Given:
    """Scores as the test wants them, by step; what is no number is raised."""

    def __init__(self, values, larger=False):
        self.values, self.aim, self.asked = values, Aim("evaluate/fd", larger), []
        self.how = ""

    def prepare(self, run):
        return self.aim

    def __call__(self, address):
        step = int(address.rpartition("@")[2])
        self.asked.append(step)
        if isinstance(self.values.get(step), Exception):
            raise self.values[step]
        return {"evaluate/fd": self.values.get(step)}


class Notes(Silent):
    def __init__(self):
        self.notes, self.rows = [], []

    def note(self, text):
        self.notes.append(text)

    def row(self, row, images_per_second):
        self.rows.append(dict(row))


class Stopper(Silent):
    """Asks for a stop, as a signal does, once a step is done."""

    def __init__(self, step):
        self.step = step

    def advance(self, done):
        if done == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    run = tmp_path_factory.mktemp("scored") / "run"
    notes = Notes()
    result = fit(config_of(), None, run, device="cpu", report=notes)
    return run, result, notes


# --- no trace -----------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", ["quickstart", "vae"])
def test_a_run_with_scores_has_the_weights_and_the_log_of_one_without(preset, tmp_path):
    more = (
        {"evaluate__measures": ["fid"]}
        if preset == "quickstart"
        else {"evaluate__measures": ["nll"], "evaluate__best": "nll"}
    )
    steps = {"train__steps": 10, "log__every": 3}
    drawing = DRAWING if preset == "quickstart" else {}
    config = small(preset, **{**drawing, **steps, **SCORED, **more})
    fit(config, None, tmp_path / "with", device="cpu")
    fit(small(preset, **{**drawing, **steps, **NONE}), None, tmp_path / "without", device="cpu")
    assert [row["step"] for row in scores_of(tmp_path / "with")] == [4, 8]
    assert log_of(tmp_path / "with") == lines_of(tmp_path / "without")
    assert_equal_tensors(tmp_path / "with", tmp_path / "without")


def test_generators_and_switches_are_put_back(tmp_path):
    """What opening another model changes, and more."""
    import random

    class Careless(Given):
        def __call__(self, address):
            torch.manual_seed(1)
            random.seed(1)
            np.random.seed(1)
            torch.set_float32_matmul_precision("high")
            return super().__call__(address)

    scorer = Careless({4: 1.0, 8: 2.0})
    engine.fit(config_of(), None, tmp_path / "a", device="cpu", scorer=scorer)
    assert scorer.asked == [4, 8, 12]
    assert torch.get_float32_matmul_precision() == "highest"
    engine.fit(
        config_of(evaluate__every=None, evaluate__best=None), None, tmp_path / "b", device="cpu"
    )
    assert_equal_tensors(tmp_path / "a", tmp_path / "b")


def test_scores_are_those_of_evaluate(scored):
    run, result, notes = scored
    rows = scores_of(run)
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        found = evaluate(
            f"{run}@{row['step']}", "digits", ["fid", "kid"], features="pixels", n=64, device="cpu"
        )["metrics"]
        assert as_row(found) == {k: v for k, v in row.items() if k.startswith(SCORES)}
    values = {row["step"]: row["evaluate/fd"] for row in rows}
    best = min(values, key=values.get)
    assert result.best == (best, values[best])
    assert checkpoint.locate(run / "checkpoints", "best").name == f"step-{best:08d}"
    assert "evaluate/fd" not in result.last
    assert result.last["step"] == 12
    assert "evaluate/fd" in notes.rows[-1], "the progress line shows the newest score"
    assert any("evaluate/fd" in note and "(best)" in note for note in notes.notes)


def test_curves_and_verdict_read_them(scored, tmp_path):
    run, _, _ = scored
    curves = read_curves(run)
    assert curves.step.tolist() == [1, 4, 5, 8, 10, 12]
    assert np.isfinite(curves.columns["evaluate/fd"]).sum() == 3
    at_12 = curves.step.tolist().index(12)
    assert np.isfinite(curves.columns["loss/generator"][at_12]), "joined to the log row"
    assert of_training(curves).step.tolist() == [1, 5, 10, 12]
    assert diagnose(curves).verdict == "too-short"
    assert not any("repeat a step" in note for note in curves.notes)


# --- resume -------------------------------------------------------------------------------------
def test_stopped_between_scores_and_resumed(scored, tmp_path):
    whole, _, _ = scored
    parts = tmp_path / "parts"
    often = with_overrides(config_of(), {"train.checkpoint_every": 1})
    for at in (3, 6, 8):
        resume = "latest" if parts.exists() else None
        fit(often, None, parts, device="cpu", resume=resume, report=Stopper(at))
    fit(often, None, parts, device="cpu", resume="latest")
    assert lines_of(parts) == lines_of(whole)
    assert_equal_tensors(parts, whole)
    assert os.readlink(parts / "checkpoints/best") == os.readlink(whole / "checkpoints/best")


KILLED = """
import os, signal, sys
from genctl.config.load import load_config
from genctl.report import scores

class Killed(scores.RunScorer):
    def __call__(self, address):
        if address.endswith("@8"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(address)

config = load_config(sys.argv[1])
scores.fit(config, None, sys.argv[2], device="cpu", scorer=Killed(config, "cpu"))
"""


def test_killed_while_it_was_scored(scored, tmp_path):
    """The checkpoint is there first; the score is taken when the run goes on."""
    whole, _, _ = scored
    (tmp_path / "quickstart.yaml").write_text(to_yaml(config_of()))
    run = tmp_path / "run"
    words = [sys.executable, "-c", KILLED, str(tmp_path / "quickstart.yaml"), str(run)]
    threads = str(torch.get_num_threads())  # sums are rounded by it
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": threads}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint.steps(run / "checkpoints")[-1] == 8
    assert [row["step"] for row in scores_of(run)] == [4]
    fit(config_of(), None, run, device="cpu", resume="latest")
    assert lines_of(run) == lines_of(whole)
    assert_equal_tensors(run, whole)


def test_killed_while_the_last_step_was_scored_is_not_finished(scored, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(scored[0], run, symlinks=True)
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert SCORES in rows[-1]
    (run / "metrics.jsonl").write_text("\n".join(rows[:-1]) + "\n")
    assert main(["train", "--resume", str(run), "--device", "cpu", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 12
    assert lines_of(run) == lines_of(scored[0])
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert "already has its 12 steps" in capsys.readouterr().out


def test_killed_between_the_row_and_the_link(tmp_path):
    config = config_of(train__steps=8)
    engine.fit(config, None, tmp_path / "r", device="cpu", scorer=Given({4: 2.0, 8: 1.0}))
    point(tmp_path / "r/checkpoints", "best", tmp_path / "r/checkpoints/step-00000004")
    engine.fit(config, None, tmp_path / "r", device="cpu", resume="latest", scorer=Given({}))
    assert os.readlink(tmp_path / "r/checkpoints/best") == "step-00000008"


def test_going_back_to_a_step_goes_back_to_its_best(tmp_path):
    config = config_of()
    values = {4: 2.0, 8: 1.0, 12: 3.0}
    result = engine.fit(config, None, tmp_path / "r", device="cpu", scorer=Given(values))
    assert result.best == (8, 1.0)
    shorter = with_overrides(config, {"train.steps": 6})
    result = engine.fit(
        shorter, None, tmp_path / "r", device="cpu", resume="4", scorer=Given(values)
    )
    assert result.best == (4, 2.0)
    assert os.readlink(tmp_path / "r/checkpoints/best") == "step-00000004"


# --- best and patience --------------------------------------------------------------------------
@pytest.mark.parametrize(("larger", "best"), [(False, 8), (True, 12)])
def test_the_best_is_by_its_direction_and_survives_pruning(larger, best, tmp_path):
    """Of equal ones the first; one that is undefined is never the best."""
    values = {2: 5.0, 4: None, 6: 4.0, 8: 1.0, 10: 1.0, 12: 9.0, 14: 9.0, 16: 6.0, 18: 6.0, 20: 7.0}
    config = config_of(evaluate__every=2, train__steps=20, train__keep=1)
    scorer = Given(values, larger)
    result = engine.fit(config, None, tmp_path / "r", device="cpu", scorer=scorer)
    assert result.best == (best, values[best])
    assert checkpoint.steps(tmp_path / "r/checkpoints") == [best, 20]
    assert checkpoint.locate(tmp_path / "r/checkpoints", "best").name == f"step-{best:08d}"


def test_patience_stops_the_run_and_says_so(tmp_path):
    values = {2: 5.0, 4: 3.0, 6: 4.0, 8: None, 10: 3.0, 12: 0.0}
    config = config_of(evaluate__every=2, evaluate__patience=3, train__steps=20)
    result = engine.fit(config, None, tmp_path / "r", device="cpu", scorer=Given(values))
    assert (result.stopped_by, result.step, result.best) == ("patience", 10, (4, 3.0))
    assert checkpoint.steps(tmp_path / "r/checkpoints")[-1] == 10
    again = Given(values)
    result = engine.fit(config, None, tmp_path / "r", device="cpu", resume="latest", scorer=again)
    assert (result.stopped_by, result.step, again.asked) == ("patience", 10, [])
    more = with_overrides(config, {"evaluate.patience": 4})
    result = engine.fit(more, None, tmp_path / "r", device="cpu", resume="latest", scorer=again)
    assert (result.stopped_by, result.step, result.best) == ("steps", 20, (12, 0.0))


def test_patience_survives_a_stop(tmp_path):
    values = {2: 1.0, 4: 2.0, 6: 2.0, 8: 2.0}
    config = config_of(evaluate__every=2, evaluate__patience=3, train__steps=20)
    scorer = Given(values)
    engine.fit(config, None, tmp_path / "r", device="cpu", scorer=scorer, report=Stopper(5))
    result = engine.fit(config, None, tmp_path / "r", device="cpu", resume="latest", scorer=scorer)
    assert (result.stopped_by, result.step) == ("patience", 8)
    assert scorer.asked == [2, 4, 6, 8]


def test_a_time_between_scores(tmp_path, monkeypatch):
    from genctl.engine import clock

    ticks = iter(range(10**6))
    monkeypatch.setattr(clock.time, "monotonic", lambda: 60.0 * next(ticks))
    scorer = Given({})
    config = config_of(evaluate__every="10m", train__steps=40, train__checkpoint_every=1000)
    engine.fit(config, None, tmp_path / "r", device="cpu", scorer=scorer)
    assert scorer.asked
    assert 0 not in scorer.asked
    assert len(scorer.asked) < 20
    assert set(scorer.asked) <= set(checkpoint.steps(tmp_path / "r/checkpoints"))
    monkeypatch.undo()
    assert time.monotonic() > 0


@pytest.mark.parametrize("error", [UsageError("digits", "gone"), RuntimeError("out of memory")])
def test_a_failure_is_told_and_the_run_goes_on(error, tmp_path):
    notes = Notes()
    scorer = Given({4: 2.0, 8: error, 12: 1.0})
    result = engine.fit(
        config_of(), None, tmp_path / "r", device="cpu", scorer=scorer, report=notes
    )
    assert (result.stopped_by, result.step, result.best) == ("steps", 12, (12, 1.0))
    (told,) = [note for note in notes.notes if note.startswith("warning: no score")]
    assert "step 8" in told
    assert str(error) in told
    assert 8 in checkpoint.steps(tmp_path / "r/checkpoints")
    assert [row["step"] for row in scores_of(tmp_path / "r")] == [4, 12]


def test_best_in_the_commands(scored, tmp_path, capsys):
    run, result, _ = scored
    out = tmp_path / "a.npz"
    assert main(["sample", f"{run}@best", "-n", "4", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == result.best[0]
    words = ["--fid", "--features", "pixels", "-n", "64", "--device", "cpu", "--json"]
    assert main(["evaluate", f"{run}@best", "digits", *words]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["fd"]["value"]
    assert found == result.best[1]


# --- what is refused ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["evaluate.measures=[fidd]"], "did you mean 'fid'"),
        (
            ["evaluate.measures=[fid]", "evaluate.every=10", "evaluate.best=kid"],
            "one of `measures`",
        ),
        (["evaluate.every=10", "evaluate.measures=[]"], "needs `measures`"),
        (["evaluate.measures=[fid]", "evaluate.every=0"], "at least 1"),
        (["evaluate.measures=[fid]", "evaluate.every=soon"], "expected a time"),
        (["evaluate.measures=[fid]", "evaluate.patience=3"], "needs `best`"),
        (["evaluate.measures=[fid]", "evaluate.best=fid"], "needs `every`"),
    ],
)
def test_mistakes_are_refused_with_the_configuration(changes, text, tmp_path, capsys):
    words = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "r"
    assert main(["train", "--preset", "quickstart", "--out", str(out), *words]) == 2
    printed = capsys.readouterr().err
    assert text in printed
    assert "evaluate" in printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("preset", "changes", "code", "text"),
    [
        ("quickstart", ["evaluate.measures=[nll]"], 5, "log likelihood"),
        ("quickstart", ["evaluate.measures=[modes]"], 2, "no modes"),
        ("quickstart", ["evaluate.measures=[is]"], 2, "no classes"),
        ("quickstart", ["evaluate.measures=[fid]", "evaluate.features=inception"], 5, "Inception"),
        ("quickstart", ["evaluate.measures=[fid]", "evaluate.features=/no/run"], 2, "/no/run"),
        ("classifier", ["evaluate.measures=[fid]"], 5, "sample"),
    ],
)
def test_what_is_missing_is_told_at_the_start(
    preset, changes, code, text, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("GENCTL_INCEPTION_WEIGHTS", str(tmp_path / "none.pth"))
    out = tmp_path / "r"
    words = [w for c in [*changes, "evaluate.every=10"] for w in ("--set", c)]
    words += ["--device", "cpu", "--data", "digits"]
    assert main(["train", "--preset", preset, "--out", str(out), *words]) == code
    assert text in capsys.readouterr().err
    assert not out.exists(), "nothing was begun"


def test_the_engine_alone_has_nobody_to_score(tmp_path):
    with pytest.raises(UsageError, match="nobody to take the scores"):
        engine.fit(config_of(), None, tmp_path / "r", device="cpu")


def test_a_model_that_cannot_is_refused_from_python(tmp_path):
    with pytest.raises(CapabilityError, match="log likelihood"):
        fit(
            config_of(evaluate__measures=["nll"], evaluate__best="nll"),
            None,
            tmp_path / "r",
            device="cpu",
        )


def test_the_configuration_knows_every_measure_and_each_says_its_direction():
    from typing import get_args

    assert set(get_args(MeasureName)) == set(table())
    assert len(table()) >= 8
    assert {name for name, m in table().items() if m.better not in ("smaller", "larger")} == set()
    smaller = {name for name, measure in table().items() if measure.better == "smaller"}
    assert {"fid", "kid", "nll"} <= smaller
    assert not smaller & {"is", "modes", "accuracy", "agreement", "clusters"}


def resumed(scored, tmp_path, capsys, *changes):
    run = tmp_path / "run"
    shutil.copytree(scored[0], run, symlinks=True)
    base = ["train", "--resume", str(run), "--steps", "14", "--device", "cpu", "--quiet", "--json"]
    assert main([*base, *(word for change in changes for word in ("--set", change))]) == 0
    return run, json.loads(capsys.readouterr().out)


def test_a_resumed_run_may_be_scored_more_often(scored, tmp_path, capsys):
    run, out = resumed(scored, tmp_path, capsys, "evaluate.every=2")
    assert [row["step"] for row in scores_of(run)] == [4, 8, 12, 14]
    assert out["best"]["measure"] == "fid"


def test_a_resumed_run_may_have_another_aim(scored, tmp_path, capsys):
    """It was measured before, so the earlier checkpoints have their say."""
    run, out = resumed(scored, tmp_path, capsys, "evaluate.best=kid", "evaluate.every=2")
    found = {row["step"]: row["evaluate/kid"] for row in scores_of(run)}
    assert out["best"] == {
        "step": min(found, key=found.get),
        "measure": "kid",
        "value": pytest.approx(min(found.values())),
    }


def test_scores_that_were_taken_otherwise_do_not_count(scored, tmp_path, capsys):
    run, out = resumed(scored, tmp_path, capsys, "evaluate.n=32", "evaluate.every=2")
    found = {"64 in pixels": {}, "32 in pixels": {}}
    for row in scores_of(run):
        found[row["scored_as"]][row["step"]] = row["evaluate/fd"]
    before, now = found.values()
    assert list(before) == [4, 8, 12]
    assert list(now) == [12, 14], "that of the step it went on from was taken again"
    assert min(before.values()) < min(now.values()), "else this would show nothing"
    best = min(now, key=now.get)
    assert (out["best"]["step"], out["best"]["value"]) == (best, now[best])
    assert os.readlink(run / "checkpoints/best") == f"step-{best:08d}"


def test_the_best_of_other_scores_stays_until_there_is_one_like_them(scored, tmp_path, capsys):
    before = os.readlink(scored[0] / "checkpoints/best")
    changes = ["evaluate.n=32", "evaluate.every=100", "train.keep=1"]
    run, out = resumed(scored, tmp_path, capsys, *changes)
    assert "best" not in out
    assert os.readlink(run / "checkpoints/best") == before
    assert (run / "checkpoints" / before).is_dir()
    words = ["train", "--resume", str(run), "--steps", "15", "--device", "cpu", "--quiet", "--json"]
    assert main([*words, "--set", "evaluate.n=64"]) == 0
    found = {row["step"]: row["evaluate/fd"] for row in scores_of(run)}
    assert json.loads(capsys.readouterr().out)["best"]["step"] == min(found, key=found.get)


def test_a_measure_that_was_not_taken_before_has_all_its_patience(tmp_path, capsys):
    fit(config_of(evaluate__measures=["kid"], evaluate__best="kid"), None, tmp_path, device="cpu")
    changes = ["evaluate.measures=[fid]", "evaluate.best=fid", "evaluate.patience=2"]
    words = ["train", "--resume", str(tmp_path), "--device", "cpu", "--quiet", "--json"]
    words += [word for change in changes for word in ("--set", change)]
    assert main([*words, "--steps", "14"]) == 0
    assert json.loads(capsys.readouterr().out)["stopped_by"] == "steps"


def test_a_measure_without_features_is_the_same_beside_one_with(tmp_path):
    more = {"evaluate__measures": ["nll"], "evaluate__best": "nll", "evaluate__features": "pixels"}
    config = small("vae", train__steps=4, **{**SCORED, **more, "evaluate__every": 2})
    fit(config, None, tmp_path, device="cpu")
    more = with_overrides(config, {"train.steps": 6, "evaluate.measures": ["nll", "fid"]})
    result = fit(more, None, tmp_path, device="cpu", resume="latest")
    rows = scores_of(tmp_path)
    assert [row["scored_as"] for row in rows] == ["64", "64", "64 in pixels"]
    assert np.isfinite(read_curves(tmp_path).columns["evaluate/nll"]).sum() == 3
    best = min(rows, key=lambda row: row["evaluate/nll"])
    assert result.best == (best["step"], best["evaluate/nll"])


def test_scores_of_two_kinds_are_no_one_curve(scored, tmp_path, capsys):
    run, _ = resumed(scored, tmp_path, capsys, "evaluate.n=32", "evaluate.every=2")
    curves = read_curves(run)
    there = curves.step[np.isfinite(curves.columns["evaluate/fd"])]
    # Step 12 was scored again, since it is where the run went on from.
    assert there.tolist() == [12, 14]
    assert any("of 3 rows were taken otherwise" in note for note in curves.notes)
    until = read_curves(f"{run}@8")
    assert until.step[np.isfinite(until.columns["evaluate/fd"])].tolist() == [4, 8]
    newer = [row for row in scores_of(run) if row["scored_as"] == "32 in pixels"]
    assert curves.columns["evaluate/fd"][curves.step == 12] == newer[0]["evaluate/fd"]


def test_names_of_features_are_no_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pixels").mkdir()
    fit(config_of(train__steps=4), None, "run", device="cpu")
    assert "features: pixels\n" in (tmp_path / "run/config.yaml").read_text()


def test_a_resumed_run_may_go_on_without_scores(scored, tmp_path, capsys):
    run, out = resumed(
        scored,
        tmp_path,
        capsys,
        "evaluate.every=null",
        "evaluate.best=null",
        "evaluate.measures=[]",
    )
    assert [row["step"] for row in scores_of(run)] == [4, 8, 12]
    assert "best" not in out


def test_a_classifier_is_found_from_any_folder(tmp_path, monkeypatch, capsys):
    """It may have moved meanwhile, too: what counts is whose features it gives."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fit(small("classifier-mnist", data__spec="digits", train__steps=2), None, "judge", device="cpu")
    config = config_of(evaluate__measures=["fid"], evaluate__features="judge", train__steps=4)
    fit(config, None, "run", device="cpu")
    run = tmp_path / "here/run"
    words = ["train", "--resume", str(run), "--device", "cpu", "--quiet", "--json", "--steps"]
    monkeypatch.chdir(tmp_path / "there")
    assert main([*words, "8"]) == 0
    (tmp_path / "here/judge").rename(tmp_path / "there/judge")
    capsys.readouterr()
    assert main([*words, "12"]) == 2, "nobody knows where it is"
    assert str(tmp_path / "here/judge") in json.loads(capsys.readouterr().out)["error"]["thing"]
    assert main([*words, "12", "--set", "evaluate.features=judge"]) == 0
    rows = scores_of(run)
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert len({row["scored_as"] for row in rows}) == 1
    best = min(rows, key=lambda row: row["evaluate/fd"])
    assert json.loads(capsys.readouterr().out)["best"]["step"] == best["step"]


def test_who_interrupts_the_last_score_is_told_how_to_take_it(tmp_path, capsys):
    config = small("quickstart", train__steps=2, evaluate__measures=["fid", "kid"])
    engine.fit(config, None, tmp_path / "run", device="cpu")  # as it is then: no score was taken
    assert main(["train", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].partition("genctl ")[2]
    words = [*shlex.split(command), "--device", "cpu", "--json"]
    assert main(words) == 0
    assert set(json.loads(capsys.readouterr().out)["metrics"]) == {"fd", "kid"}


def test_defaults_are_off():
    assert EvaluateConfig().every is None
    assert load_config("quickstart").evaluate.every is None
    assert RunScorer(load_config("quickstart")).reports == {}
    assert MetricsFile(Path("/no/such/file")).scores("x") == []
