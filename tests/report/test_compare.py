"""``evaluate --compare``: numbers side by side, and never of unlike protocols unasked."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from genctl.cli.main import main
from genctl.errors import UsageError
from genctl.report.compare import compare
from genctl.report.evaluate import evaluate


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Three real results: noise of three sizes against noise, in stored features."""
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    for name, shift in (("real", 0.0), ("near", 0.1), ("far", 2.0), ("middle", 0.5)):
        probabilities = rng.dirichlet(np.ones(4), 60)
        rows = rng.standard_normal((60, 3)) + shift
        np.savez(folder / f"{name}.npz", features=rows, probabilities=probabilities)
    for name in ("near", "far", "middle"):
        evaluate(
            folder / f"{name}.npz",
            folder / "real.npz",
            ["fid", "kid", "is"],
            is_splits=2,
            out=folder / f"{name}.json",
        )
    return folder


def changed(reports, tmp_path, change):
    found = json.loads((reports / "far.json").read_text())
    change(found)
    (tmp_path / "other.json").write_text(json.dumps(found))
    return tmp_path / "other.json"


def test_two_results_and_their_differences(reports, capsys):
    a, b = (str(reports / f"{name}.json") for name in ("near", "far"))
    assert main(["evaluate", "--compare", a, b, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compared"] == [a, b]
    assert found["unlike"] == []
    values = [json.loads((reports / f"{n}.json").read_text())["metrics"] for n in ("near", "far")]
    fd = found["metrics"]["fd"]
    assert fd["fields"]["value"]["values"] == [v["fd"]["value"] for v in values]
    assert fd["fields"]["value"]["differences"] == [
        values[1]["fd"]["value"] - values[0]["fd"]["value"]
    ]
    assert (fd["better"], fd["best"]) == ("smaller", 0)
    score = found["metrics"]["is"]
    means = [v["is"]["mean"] for v in values]
    assert (score["better"], score["best"]) == ("larger", int(np.argmax(means)))
    assert set(score["fields"]) == {"mean", "std", "splits"}


def test_more_than_two_as_text(reports, capsys, tmp_path):
    paths = [str(reports / f"{name}.json") for name in ("far", "near", "middle")]
    out = tmp_path / "deep" / "c.json"
    assert main(["evaluate", "--compare", *paths, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "C - A" in text
    (line,) = [line for line in text.splitlines() if line.startswith("fd ")]
    assert "smaller is better" in line
    assert line.split()[-4].endswith("*"), "the second is the best"
    assert json.loads(out.read_text())["metrics"]["fd"]["best"] == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r["protocol"].update(precision="bf16"), "precision: None against bf16"),
        (lambda r: r.update(n_real=59), "n_real: 60 against 59"),
        (lambda r: r.update(features="pixels"), "features: stored against pixels"),
        (lambda r: r["protocol"].update(range="uint8"), "range: None against uint8"),
        (lambda r: r["protocol"]["real"].update(fingerprint="b"), "against b"),
        (lambda r: r["protocol"]["real"].pop("fingerprint"), None),
        (lambda r: r["protocol"]["settings"]["kid"].update(subset_size=7), "kid.subset_size: 60"),
    ],
)
def test_unlike_protocols_are_refused_with_what_differs(change, text, reports, tmp_path, capsys):
    a, b = str(reports / "near.json"), str(changed(reports, tmp_path, change))
    words = ["evaluate", "--compare", a, b]
    if text is None:  # one of them does not say whose its data is
        assert main(words) == 0
        return
    assert main(words) == 2
    printed = capsys.readouterr()
    assert text in printed.err
    assert "--unlike-protocols" in printed.err
    assert main([*words, "--unlike-protocols", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any(text in difference for difference in found["unlike"])
    assert {entry["best"] for entry in found["metrics"].values()} == {None}


def test_other_real_data_is_another_protocol(tmp_path):
    for name in ("a", "b"):
        protocol = {"real": {"fingerprint": name, "crop": "centre"}}
        node = {"metrics": {"fd": {"value": 1.0}}, "protocol": protocol}
        (tmp_path / f"{name}.json").write_text(json.dumps(node))
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    with pytest.raises(UsageError, match="real fingerprint: a against b"):
        compare([a, b])
    assert compare([a, a])["unlike"] == []


def test_what_a_measure_was_taken_of_is_compared_however_deep(tmp_path):
    settings = {"probe": {"test": {"fingerprint": "a", "n": 5}, "of": "this run"}, "nll": {"n": 3}}
    other = copy.deepcopy(settings)
    other["probe"]["of"], other["nll"]["seed"] = "that run", 1  # a name; and what one lacks
    names = ("a", "b", "c")
    deep = copy.deepcopy(settings)
    deep["probe"]["test"]["fingerprint"], deep["nll"]["n"] = "b", 4
    for name, said in zip(names, (settings, other, deep), strict=True):
        node = {"metrics": {"probe": {"value": 1.0}}, "protocol": {"settings": said}}
        (tmp_path / f"{name}.json").write_text(json.dumps(node))
    a, b, c = (tmp_path / f"{name}.json" for name in names)
    assert compare([a, b])["unlike"] == []
    found = compare([a, c], unlike=True)["unlike"]
    assert found == ["probe.test.fingerprint: a against b", "nll.n: 3 against 4"]


def test_pictures_that_people_saw_for_another_time_are_unlike(tmp_path):
    for name, seconds in (("a", 0.5), ("b", None)):
        node = {"metrics": {"human": {"value": 0.3}}, "protocol": {"shown_seconds": seconds}}
        (tmp_path / f"{name}.json").write_text(json.dumps(node))
    with pytest.raises(UsageError, match=r"shown_seconds: 0\.5 against None"):
        compare([tmp_path / "a.json", tmp_path / "b.json"])


def test_a_bound_is_not_compared_with_an_exact_likelihood(tmp_path):
    report = {"metrics": {"nll": {"nats": 1.0, "kind": "exact"}}, "protocol": {}}
    other = copy.deepcopy(report)
    other["metrics"]["nll"]["kind"] = "lower_bound"
    for name, node in (("a", report), ("b", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(node))
    with pytest.raises(UsageError, match=r"nll\.kind: exact against lower_bound"):
        compare([tmp_path / "a.json", tmp_path / "b.json"])


def test_what_one_of_them_lacks_is_none(tmp_path, capsys):
    nodes = {"a": {"fd": {"value": 0.0}}, "b": {"fd": {"value": None, "reason": "no"}, "x": {}}}
    for name, metrics in nodes.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"metrics": metrics}))
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    found = compare(paths)["metrics"]
    assert found["fd"]["fields"]["value"] == {"values": [0.0, None], "differences": [None]}
    assert (found["fd"]["best"], found["x"]["fields"]) == (None, {})
    assert main(["evaluate", "--compare", *map(str, paths)]) == 0
    assert "none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--compare", "near.json"], 2, "1 file given"),
        (["--compare", "near.json", "gone.json"], 4, "--compare"),
        (["--compare", "near.json", "real.npz"], 4, "cannot be read"),
        (["near.npz", "real.npz", "far.npz"], 2, "--compare"),
    ],
)
def test_mistakes(words, code, text, reports, monkeypatch, capsys):
    monkeypatch.chdir(reports)
    assert main(["evaluate", *words]) == code
    printed = capsys.readouterr()
    assert text in printed.err
    assert printed.out == ""


def test_numbers_beyond_all_are_none(reports, tmp_path):
    """A whole number may have any length in a file."""
    huge = changed(reports, tmp_path, lambda found: found["metrics"]["fd"].update(value=10**400))
    found = compare([reports / "far.json", huge])["metrics"]["fd"]["fields"]["value"]
    assert found["values"][1] is None
    assert found["differences"] == [None]
    splits = compare([reports / "far.json", reports / "near.json"])["metrics"]["is"]["fields"]
    assert all(type(value) is int for value in splits["splits"]["values"])
