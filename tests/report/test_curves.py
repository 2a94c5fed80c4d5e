"""Reading a log whatever its state, and drawing it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from genctl.errors import DataError, UsageError
from genctl.report.chart import chart, plain_chart, render
from genctl.report.curves import Span, panels, plot, read_curves

ROW = {"step": 1, "images": 64, "seconds": 0.5, "loss/model": 3.0, "grad_norm/model": 1.0}


def log(folder, text: str):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "metrics.jsonl").write_text(text)
    return folder / "metrics.jsonl"


def test_rows_become_columns(tmp_path) -> None:
    rows = [ROW, {**ROW, "step": 100, "loss/model": 2.0, "diversity": 0.5}]
    curves = read_curves(log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    assert curves.step.tolist() == [1, 100]
    assert curves.columns["loss/model"].tolist() == [3.0, 2.0]
    assert np.isnan(curves.columns["diversity"][0])
    assert curves.columns["diversity"][1] == 0.5
    assert not curves.notes
    assert not curves.nonfinite
    assert curves.get("loss/generator") is None


def test_a_torn_last_line_is_left_out_and_said_so(tmp_path) -> None:
    text = json.dumps(ROW) + "\n" + json.dumps({**ROW, "step": 2})[:17]
    curves = read_curves(log(tmp_path, text))
    assert curves.step.tolist() == [1]
    assert curves.notes == ["the last line is torn and was left out"]


@pytest.mark.parametrize("tear", range(1, 60, 7))
def test_any_tear_costs_the_last_row_only(tmp_path, tear) -> None:
    whole = [json.dumps({**ROW, "step": s}) for s in (1, 2, 3)]
    curves = read_curves(log(tmp_path, "\n".join([*whole[:2], whole[2][:-tear]])))
    assert curves.step.tolist() == [1, 2]


def test_a_broken_line_in_the_middle_is_named(tmp_path) -> None:
    lines = [json.dumps(ROW), "not json", "[1, 2]", json.dumps({**ROW, "step": 3})]
    curves = read_curves(log(tmp_path, "\n".join(lines) + "\n"))
    assert curves.step.tolist() == [1, 3]
    assert curves.notes == ["2 unreadable lines were left out, the first is 2"]


def test_null_is_a_hole_and_listed_keys_are_not_finite(tmp_path) -> None:
    rows = [
        ROW,
        {**ROW, "step": 2, "loss/model": None, "nonfinite": ["loss/model"]},
        {**ROW, "step": 3, "grad_norm/model": None},
    ]
    curves = read_curves(log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    assert np.isnan(curves.columns["loss/model"][1])
    assert curves.nonfinite == {2: ("loss/model",)}
    assert "nonfinite" not in curves.columns


def test_literal_nan_and_infinity_of_other_writers(tmp_path) -> None:
    text = '{"step": 1, "loss/a": NaN, "loss/b": Infinity, "loss/c": 1, "on": true, "who": "me"}\n'
    curves = read_curves(log(tmp_path, text))
    assert set(curves.nonfinite[1]) == {"loss/a", "loss/b"}
    assert curves.starting("loss/") == ["loss/c"]
    assert not curves.has("on")
    assert not curves.has("who")


def test_a_repeated_step_keeps_the_later_row_and_steps_increase(tmp_path) -> None:
    rows = [{**ROW, "step": s, "loss/model": v} for s, v in ((1, 1), (3, 2), (2, 3), (3, 4))]
    curves = read_curves(log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    assert curves.step.tolist() == [1, 2, 3]
    assert curves.columns["loss/model"].tolist() == [1, 3, 4]
    assert curves.notes == ["1 rows repeat a step or have none"]


def test_rows_without_steps_are_numbered(tmp_path) -> None:
    curves = read_curves(log(tmp_path, '{"loss/a": 1}\n{"loss/a": 2}\n'))
    assert curves.step.tolist() == [1, 2]


def test_empty_and_absent_and_foreign_files(tmp_path) -> None:
    assert len(read_curves(log(tmp_path / "empty", ""))) == 0
    with pytest.raises(DataError, match="No such file"):
        read_curves(tmp_path / "nowhere")
    with pytest.raises(DataError, match="none of its 2 lines"):
        read_curves(log(tmp_path / "foreign", "step,loss\n1,2\n"))


def test_addresses(tmp_path) -> None:
    run = tmp_path / "run"
    rows = [{**ROW, "step": s} for s in (1, 100, 200, 300)]
    log(run, "".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.yaml").write_text("model: {kind: x}\n")
    (run / "checkpoints" / "step-00000200").mkdir(parents=True)
    (run / "checkpoints" / "best").symlink_to("step-00000200")
    assert read_curves(run).folder == run
    assert read_curves(run / "metrics.jsonl").folder == run
    assert read_curves(f"{run}@100").step.tolist() == [1, 100]
    assert read_curves(f"{run}@best").step.tolist() == [1, 100, 200]
    with pytest.raises(UsageError, match="neither a step nor a checkpoint"):
        read_curves(f"{run}@worst")


def test_a_log_alone_belongs_to_no_run(tmp_path) -> None:
    assert read_curves(log(tmp_path, json.dumps(ROW))).folder is None


def test_panels_group_keys_and_leave_out_clocks_and_counters(tmp_path) -> None:
    extra = {
        "loss/generator": 1.0,
        "score/real": 0.5,
        "steps/model": 1,
        "seconds/step": 0.1,
        "began/k": 0.1,
        "wasserstein": 2.0,
        "lr/model": 1e-3,
        "nothing": None,
    }
    rows = [{**ROW, **extra}, {**ROW, **extra, "step": 2}]
    curves = read_curves(log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    assert panels(curves) == {
        "loss": ["loss/generator", "loss/model"],
        "score": ["score/real"],
        "gradient norm": ["grad_norm/model"],
        "began": ["began/k"],
        "wasserstein": ["wasserstein"],
    }


def test_plot_draws_the_values_and_the_shade(tmp_path) -> None:
    rows = [{**ROW, "step": s, "loss/model": 1 / s} for s in range(1, 40)]
    curves = read_curves(log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    plot(tmp_path / "a.png", [curves])
    plot(tmp_path / "b.png", [curves], [[Span("stalled", 10, 39)]])
    plot(tmp_path / "both.png", [curves, curves])
    plain, shaded = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    red = (shaded[..., 0].astype(int) - shaded[..., 1]) > 10
    before = (plain[..., 0].astype(int) - plain[..., 1]) > 10
    assert red.sum() > before.sum() + 1000
    assert (tmp_path / "both.png").stat().st_size > 10_000


def test_plot_survives_empty_constant_and_wild_logs(tmp_path) -> None:
    for name, values in (
        ("flat", [0, 0, 0]),
        ("wild", [1, 1e30, -1e30]),
        ("holes", [None, 1, None]),
    ):
        rows = [{"step": i + 1, "loss/model": v} for i, v in enumerate(values)]
        path = log(tmp_path / name, "".join(json.dumps(row) + "\n" for row in rows))
        plot(tmp_path / f"{name}.png", [read_curves(path)])
        assert (tmp_path / f"{name}.png").exists()
        assert render([read_curves(path)])
    empty = read_curves(log(tmp_path / "empty", ""))
    plot(tmp_path / "empty.png", [empty])
    assert "no metrics yet" in " ".join(render([empty]).split())  # wrapped by width


def dots(lines: list[str]) -> np.ndarray:
    """Braille back to booleans, by the definition of the Unicode block."""
    out = np.zeros((4 * len(lines), 2 * max(map(len, lines))), dtype=bool)
    places = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1))
    for i, line in enumerate(lines):
        for j, character in enumerate(line):
            code = 0 if character == " " else ord(character) - 0x2800
            for bit, (row, column) in enumerate(places):
                out[4 * i + row, 2 * j + column] = bool(code >> bit & 1)
    return out


def test_chart_is_the_curve() -> None:
    steps = np.arange(40)
    rising = dots(chart(steps, steps.astype(float), 20, 10))
    assert rising.shape == (40, 40)
    assert np.array_equal(rising, np.eye(40, dtype=bool)[::-1])


def test_chart_joins_neighbours_and_keeps_gaps() -> None:
    steps = np.array([0, 1, 2, 3])
    jump = dots(chart(steps, np.array([0.0, 1.0, np.nan, 0.0]), 10, 4))
    assert jump[0].any()
    assert jump[:, :7].any(axis=0).all()  # joined from the first to the second
    assert not jump[:, 8:19].any()  # a hole stays a hole
    assert jump[-1, 19]
    assert plain_chart(steps, np.full(4, np.nan), 10, 2) == [" " * 10] * 2


def test_render_has_no_control_characters_unless_colours_are_asked_for(tmp_path) -> None:
    rows = [{**ROW, "step": s, "loss/model": 1 / s} for s in range(1, 40)]
    curves = read_curves(log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows)))
    plain = render([curves], width=80)
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert "loss/model" in plain
    assert "last 0.02564" in plain
    assert "\x1b" in render([curves], width=80, colour=True)
