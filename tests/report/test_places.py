"""Numbers of hours are not lost to a place that cannot be written."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.engine.fit import fit
from genctl.errors import GenctlError, UsageError
from genctl.report import pictures, result
from genctl.report.evaluate import evaluate
from genctl.report.places import obstacle, require_writable

NARROW = {"model.generator.width": 8, "model.discriminator.width": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    settings = {"train.steps": 2, "train.batch_size": 8, "log.preview_every": 0, **NARROW}
    out = tmp_path_factory.mktemp("trained") / "run"
    fit(load_config("quickstart", settings), "digits", out, device="cpu")
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run", symlinks=True)


def asked(run, *more):
    words = ["evaluate", run, "digits", "--prd", "--features", "pixels", "-n", 40, "--json", *more]
    return [str(word) for word in words]


def test_places(tmp_path):
    (tmp_path / "file").write_text("")
    require_writable(tmp_path / "file", "--out")
    require_writable(tmp_path / "new" / "deep" / "x.json", "--out")
    assert not (tmp_path / "new").exists(), "nothing is made by asking"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    with pytest.raises(UsageError, match="is a folder"):
        require_writable(tmp_path, "--out")
    with pytest.raises(GenctlError, match="cannot be written: Not a directory"):
        require_writable(tmp_path / "file" / "x.json", "--out")
    assert obstacle(tmp_path / "file" / "deep" / "x.json") is not None


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_evaluate_asks_before_anything_is_computed(option, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("genctl.report.evaluate.gather", lambda *_: 1 / 0)
    (tmp_path / "file").write_text("")
    assert main(asked(run, option, tmp_path / "file" / "x.png")) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["thing"] == f"{option} {tmp_path / 'file' / 'x.png'}"
    assert error["remedy"]


@pytest.mark.parametrize(
    ("words", "late"),
    [
        (["interpolate", "{run}", "--out", "{file}/x.png"], "genctl.engine.run.Run.interpolate"),
        (["inspect-curves", "{run}", "--plot", "{file}/x.png"], "genctl.report.curves.read_curves"),
    ],
)
def test_other_commands_ask_before_too(words, late, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(late, lambda *_, **__: 1 / 0)
    (tmp_path / "file").write_text("")
    filled = [word.format(run=run, file=tmp_path / "file") for word in words]
    assert main([*filled, "--json"]) == 1
    assert "cannot be written" in json.loads(capsys.readouterr().out)["error"]["reason"]


def test_a_run_that_may_only_be_read_is_measured_all_the_same(run, tmp_path, capsys):
    shutil.rmtree(run / "reports", ignore_errors=True)
    (run / "reports").write_text("in the way")
    out = tmp_path / "result.json"
    assert main(asked(run, "--out", out)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["prd"]["f8"] is not None
    assert "picture" not in found["metrics"]["prd"]
    assert any("reports cannot be written" in text for text in found["warnings"])
    assert json.loads(out.read_text()) == found


def test_a_picture_that_fails_costs_no_number(run, monkeypatch, tmp_path):
    order = []
    save = result.write_atomically

    def saved(path, text):
        order.append(path.name)
        save(path, text)

    def full(path, image):
        order.append(path.name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result, "write_atomically", saved)
    monkeypatch.setattr(pictures, "write_png", full)
    found = evaluate(run, "digits", ["prd"], n=40, features="pixels", out=tmp_path / "o.json")
    stem = "evaluate-00000002-pixels"
    assert order[:3] == [f"{stem}.json", "o.json", f"{stem}-prd.png"], "the numbers are kept first"
    assert "picture" not in found["metrics"]["prd"]
    assert "prd: its picture" in found["warnings"][-1]
    assert "No space left" in found["warnings"][-1]
    assert "error" not in found
    for path in (run / "reports" / f"{stem}.json", tmp_path / "o.json"):
        assert json.loads(path.read_text()) == found


def test_a_result_that_cannot_be_written_at_the_end_is_printed(run, monkeypatch, capsys):
    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(result, "write_atomically", full)
    assert main(asked(run)) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["prd"]["f8"] is not None
    assert "No space left" in found["error"]["reason"]
    assert Image.open(found["metrics"]["prd"]["picture"]).size[0] > 100
