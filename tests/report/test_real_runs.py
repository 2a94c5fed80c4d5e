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


def test_nine_of_ten_are_named_rightly_where_the_thresholds_were_chosen(judged):
    assert judged["chosen"]["named rightly"] >= 0.9


def test_the_readme_quotes_the_record():
    readme = " ".join((diagnosis.HERE.parents[1] / "README.md").read_text(encoding="utf-8").split())
    chosen, held_out = (RECORD[part] for part in diagnosis.PARTS)
    assert (
        f"Of {chosen['runs']} real runs, half made to fail on purpose, it names "
        f"{chosen['named rightly']:.0%} rightly, and {held_out['named rightly']:.0%} of "
        f"{held_out['runs']} others".replace("%", " %")
    ) in readme


@pytest.mark.parametrize("part", diagnosis.PARTS)
def test_healthy_runs_are_left_alone(judged, part):
    assert judged[part]["false alarms among healthy"] <= 0.1
