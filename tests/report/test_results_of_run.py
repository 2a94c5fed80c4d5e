"""Results of a run come together by their protocol, and none erases another."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.engine.run_directory import RunDirectory
from genctl.report.evaluate import evaluate
from genctl.report.gates import protocol_differences
from genctl.report.recorded_scores import read_results
from genctl.report.scores import fit


@pytest.fixture
def run(tmp_path):
    """A run that was scored at its end, on 40 examples."""
    asked = {"evaluate__every": 2, "evaluate__measures": ["fid"], "evaluate__features": "pixels"}
    config = small("quickstart", train__steps=2, evaluate__n=40, **asked)
    fit(config, "digits", tmp_path / "run", device="cpu")
    return tmp_path / "run"


def kept(run):
    paths = sorted((run / "reports").glob("evaluate-*.json"), key=lambda path: path.stem)
    return {path.stem: json.loads(path.read_text()) for path in paths}


def measured(run, measures, n=40, **more):
    return evaluate(run, "digits", measures, n=n, features="pixels", device="cpu", **more)


def test_measures_of_one_protocol_join_and_keep_their_newest_number(run):
    (before,) = kept(run).values()
    measured(run, ["kid"], require=["kid<1000"])
    measured(run, ["pr"], require=["pr<=1"])
    again = measured(run, ["kid"], require=["kid<2000"])
    (found,) = kept(run).values()
    assert list(found["metrics"]) == ["fd", "kid", "pr", "dc"]
    assert found["metrics"]["fd"] == before["metrics"]["fd"]
    assert found["metrics"]["kid"] == again["metrics"]["kid"]
    assert [gate["require"] for gate in found["gates"]] == ["pr<=1", "kid<2000"]
    assert set(found["protocol"]["settings"]) == {"kid", "pr", "dc"}
    assert (found["n_generated"], found["n_real"], found["real"]) == (40, 40, "digits")
    assert sum("subsets of 40" in text for text in found["warnings"]) == 1


@pytest.mark.parametrize(
    ("measures", "more"),
    [
        (["fid"], {"n": 30}),
        (["kid"], {"seed": 1}),
        (["fid"], {"raw_weights": True}),
        (["fid"], {"run_precision": "bf16"}),
    ],
    ids=["n", "seed", "weights", "precision"],
)
def test_another_protocol_has_another_file(measures, more, run):
    (first,) = kept(run).items()
    found = measured(run, measures, **more)
    measured(run, ["prd"], **more)
    both = kept(run)
    assert both.pop(first[0]) == first[1], "scores of the training are as they were"
    ((name, other),) = both.items()
    assert name.startswith(f"{first[0]}-")
    assert len(name) == len(first[0]) + 9
    assert other["metrics"].items() >= found["metrics"].items()
    assert other["metrics"]["prd"]["picture"] == str(run / "reports" / f"{name}-prd.png")
    assert (run / "reports" / f"{name}-prd.png").is_file()


def test_other_settings_of_a_measure_are_another_protocol_of_it_alone(run):
    measured(run, ["kid"])
    measured(run, ["kid"], kid_subset_size=10)
    measured(run, ["pr"])
    one, other = kept(run).values()
    assert list(one["metrics"]) == ["fd", "kid", "pr", "dc"]
    assert list(other["metrics"]) == ["kid"]
    assert protocol_differences(one, other) == ["kid.subset_size: 40 against 10"]


def test_other_data_is_another_protocol_and_another_name_for_it_is_not(run):
    measured(run, ["kid"])
    evaluate(run, "digits@train", ["pr"], n=40, features="pixels")
    assert len(kept(run)) == 1
    evaluate(run, "digits@test", ["pr"], n=40, features="pixels")
    assert len(kept(run)) == 2


def test_a_measure_without_a_value_takes_no_numbers_place(run, monkeypatch):
    measured(run, ["kid"])
    (before,) = kept(run).values()
    measured(run, ["kid"], kid_subset_size=40, n=1)
    assert before in kept(run).values()


def test_every_result_is_on_the_page(run):
    measured(run, ["kid"])
    measured(run, ["fid"], n=30)
    results, notes = read_results(RunDirectory(run))
    assert notes == []
    names = [[score.name for score in result.scores] for result in results]
    assert names == [["fd", "kid"], ["fd"]]
    assert main(["report", str(run)]) == 0
    page = (run / "reports" / "report.html").read_text()
    assert "40 generated and 40 real" in page
    assert "30 generated and 30 real" in page
    both = map(str, (run / "reports").glob("evaluate-*.json"))
    assert main(["evaluate", "--compare", *both]) == 2


DAMAGED = {"metrics": {}, "protocol": {}, "warnings": [], "gates": ["fd<3"]}


@pytest.mark.parametrize("text", ["{", "[]", '{"metrics": {"fd": 3}}', "null", json.dumps(DAMAGED)])
def test_what_is_no_result_is_left_alone(text, run):
    ((name, _),) = kept(run).items()
    (run / "reports" / f"{name}.json").write_text(text)
    measured(run, ["kid"])
    measured(run, ["pr"])
    assert (run / "reports" / f"{name}.json").read_text() == text
    (other,) = (run / "reports").glob(f"{name}-*.json")
    assert list(json.loads(other.read_text())["metrics"]) == ["kid", "pr", "dc"]
