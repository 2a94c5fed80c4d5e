"""Means, deviations and trends against values worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from genctl.study.conclude import as_text, conclude_study
from genctl.study.directory import DONE, FAILED, StudyDirectory
from genctl.study.picture import draw
from genctl.study.plan import read_study
from genctl.study.table import collect, lines, numbers, trends, write_table

TEXT = """
runs: [gan-ring, gan-grid]
vary: {train.batch_size: [8, 32, 128]}
seeds: [0, 1, 2]
evaluate: {measures: [modes]}
plot: {y: [modes.covered / modes.total, seconds]}
"""


@pytest.fixture
def made(tmp_path):
    """A study whose results are written by hand: covered = 8, 6, 4 with seeds 0, −1, −2 of it."""
    file = tmp_path / "s.yaml"
    file.write_text(TEXT)
    study, directory = read_study(file), StudyDirectory(tmp_path / "out")
    directory.begin(study)
    for trial in study.trials:
        place = [8, 32, 128].index(trial.settings["train.batch_size"])
        if trial.entry == "gan-grid" and trial.seed == 2:
            error = {"code": 6, "thing": "x", "reason": "non-finite", "remedy": ""}
            directory.write(study, trial, state=FAILED, error=error, train={}, metrics={})
            continue
        covered = 8 - 2 * place - trial.seed if trial.entry == "gan-ring" else 8
        directory.write(
            study,
            trial,
            state=DONE,
            train={"step": 2, "seconds": 1.0 + trial.seed, "last": {"loss/generator": 0.5}},
            metrics={
                "modes": {"covered": covered, "total": 16, "kl": None, "counts": [1, 2]},
                "fd": {"value": 3.5},
                "is": {"mean": 2.0, "std": 0.1, "splits": 10},
            },
        )
    return study, directory, collect(study, directory)


def test_mean_and_sample_deviation_over_seeds(made):
    _, _, groups = made
    assert groups[0].summary("modes.covered") == {"mean": 7.0, "std": 1.0, "n": 3}
    ratio = groups[0].summary("modes.covered / modes.total")
    assert ratio["mean"] == pytest.approx(7 / 16)
    assert ratio["std"] == pytest.approx(np.std([8, 7, 6], ddof=1) / 16)
    assert groups[1].summary("seconds") == {"mean": 1.5, "std": pytest.approx(0.5**0.5), "n": 2}
    assert groups[1].failed == [{"seed": 2, "code": 6, "reason": "non-finite"}]
    assert groups[0].summary("nothing") == {"mean": None, "std": None, "n": 0}


def test_one_seed_has_no_deviation(made):
    _, _, groups = made
    groups[0].values["modes.covered"][1:] = math.nan
    assert groups[0].summary("modes.covered") == {"mean": 8.0, "std": None, "n": 1}


def test_numbers_are_named_as_gates_name_them(made):
    study, directory, _ = made
    found = numbers(directory.read(study.trials[0]))
    assert found["fd"] == 3.5
    assert found["is"] == 2.0
    assert found["is.std"] == 0.1
    assert found["last/loss/generator"] == 0.5
    assert "modes.kl" not in found
    assert "modes.counts" not in found


def test_spearman_by_hand(made):
    study, _, groups = made
    found = {(t["line"], t["y"]): t["spearman"] for t in trends(study, groups)}
    # Ranks of x: 2, 5, 8 three times each. Of y, falling: 8 7 6 | 6 5 4 | 4 3 2.
    x = np.repeat([2.0, 5.0, 8.0], 3)
    y = np.array([9, 8, 6.5, 6.5, 5, 3.5, 3.5, 2, 1])
    by_hand = np.corrcoef(x, y)[0, 1]
    assert found["gan-ring", "modes.covered / modes.total"] == pytest.approx(by_hand)
    assert found["gan-grid", "modes.covered / modes.total"] is None, "it does not change"
    assert found["gan-ring", "seconds"] == pytest.approx(0.0)


def test_lines_stand_at_their_values(made):
    study, _, groups = made
    found = lines(study.sweeps[0], groups)
    assert [line.label for line in found] == ["gan-ring", "gan-grid"]
    assert list(found[0].x) == [8.0, 32.0, 128.0]


def test_a_line_goes_from_left_to_right(made):
    study, _, groups = made
    sweep = study.sweeps[0]
    found = lines(sweep, [*groups[2:], *groups[:2]])  # as when another sweep had one before
    assert [list(line.x) for line in found] == [[8.0, 32.0, 128.0]] * 2


def test_the_files(made):
    study, directory, groups = made
    whole = write_table(study, directory, groups)
    assert json.loads((directory.path / "table.json").read_text()) == whole
    rows = (directory.path / "table.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    head, first = rows[0].split(","), rows[1].split(",")
    row = dict(zip(head, first, strict=True))
    assert (row["entry"], row["train.batch_size"], row["seeds"]) == ("gan-ring", "8", "3")
    assert float(row["modes.covered mean"]) == 7.0
    assert float(row["modes.covered std"]) == 1.0
    draw(directory.plot, study, groups)
    picture = np.asarray(Image.open(directory.plot))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, "something is drawn"


def test_nothing_done_yet_is_drawn_too(tmp_path):
    (tmp_path / "s.yaml").write_text("runs: [gan-ring]\nplot: {y: seconds}\n")
    study, directory = read_study(tmp_path / "s.yaml"), StudyDirectory(tmp_path / "out")
    directory.begin(study)
    groups = collect(study, directory)
    draw(directory.plot, study, groups)
    assert groups[0].missing == [0]


def test_the_text_shows_what_is_plotted_or_else_measured(made, tmp_path):
    study, directory, _ = made
    payload = conclude_study(study, directory, "end")
    assert as_text(study, payload).splitlines()[0].split("  ")[0] == "run"
    assert "modes.covered / modes.total" in as_text(study, payload).splitlines()[0]
    (tmp_path / "bare.yaml").write_text(TEXT[: TEXT.index("plot:")])
    bare = read_study(tmp_path / "bare.yaml")
    head, first = as_text(bare, {**payload, "trends": [], "plot": None}).splitlines()[:2]
    assert head.split() == ["run", "modes.covered", "fd", "is", "seeds"]
    assert "  7 ± 1 " in first
    assert "  3.5 ± 0 " in first
