"""``inspect-curves`` on the logs of real runs, kept when they were made; see tests/benchmarks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import diagnosis

RUNS = list(diagnosis.made())
RECORD = json.loads((diagnosis.HERE / "diagnosis.json").read_text(encoding="utf-8"))
FIRST, ANY = "named rightly, the first name alone", "named rightly, any accepted name"
ALARMS = "false alarms among healthy"
TITLES = ("with config.yaml", "without config.yaml")


def test_every_run_is_kept_and_no_other():
    kept = {path.name.removesuffix(".json.gz") for path in diagnosis.KEPT.iterdir()}
    assert kept == {run.name for run in RUNS}
    assert len(RUNS) >= 60
    assert len({run.objective for run in RUNS}) >= 6


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    return diagnosis.judge(tmp_path_factory.mktemp("logs"))


def test_the_record_is_what_the_detectors_say_today(judged):
    assert judged == RECORD


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("part", diagnosis.PARTS)
def test_nine_of_ten_are_named_rightly(judged, part, title):
    assert judged[part][title][FIRST] >= 0.9
    assert judged[part][title][ANY] >= 0.9


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("part", diagnosis.PARTS)
def test_healthy_runs_are_left_alone(judged, part, title):
    assert judged[part][title][ALARMS] <= 0.1


def test_each_imbalance_that_was_made_is_seen_as_one(judged):
    """Not only as the collapse that it brings about."""
    for part in diagnosis.PARTS:
        for kind in ("discriminator-too-strong", "discriminator-too-weak"):
            row = judged[part]["with config.yaml"]["matrix"][kind]
            assert row.get(kind, 0) >= 0.9 * sum(row.values()), (part, row)


def test_what_was_made_to_fail_and_did_not_is_told_apart():
    for run in RUNS:
        assert not run.survived or run.expected == ("healthy",)
    assert {run.name for run in RUNS if run.survived} == {
        name for part in diagnosis.PARTS for name in RECORD[part]["made to fail, yet healthy"]
    }


def test_confusion_counts_what_it_says():
    names = (("a", ("healthy",)), ("b", ("stalled", "mode-collapse")), ("c", ("healthy",)))
    runs = [diagnosis.Made("chosen", name, kinds, False, "gan", ()) for name, kinds in names]
    found = diagnosis.confusion(runs, {"a": "healthy", "b": "mode-collapse", "c": "stalled"})
    assert (found[FIRST], found[ANY], found[ALARMS]) == (0.3333, 0.6667, 0.5)
    assert found["another accepted name"] == {"b": "mode-collapse"}
    assert found["wrong"] == {"c": "stalled"}
    assert found["matrix"] == {
        "healthy": {"healthy": 1, "stalled": 1},
        "stalled": {"mode-collapse": 1},
    }


def test_the_readme_quotes_the_record():
    readme = " ".join((diagnosis.HERE.parents[1] / "README.md").read_text(encoding="utf-8").split())
    chosen, held_out = (RECORD[part] for part in diagnosis.PARTS)
    for share in (FIRST, ANY, ALARMS):  # the sentence says it of both at once
        for part in (chosen, held_out):
            assert part[TITLES[0]][share] == part[TITLES[1]][share]
    a, b = chosen[TITLES[0]], held_out[TITLES[0]]
    failed = chosen["runs"] - chosen["healthy"]
    text = (
        f"right for {a[FIRST]:.0%} of {chosen['runs']} real runs, {failed} of which were made to "
        f"fail and did, and for {b[FIRST]:.0%} of {held_out['runs']} others that no threshold was "
        f"chosen on; it calls {100 * a[ALARMS]:.0f} and {b[ALARMS]:.0%} of the healthy ones ill"
    )
    assert text.replace("%", " %") in readme
