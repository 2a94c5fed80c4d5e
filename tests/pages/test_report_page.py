"""``genctl report``: what is on the page, and that nothing on it acts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_runs import INJECTION, Page, made_run, noise

from genctl.cli.main import main
from genctl.config.load import read_yaml
from genctl.engine.construction import build_model
from genctl.report import previews
from genctl.report.axes import axis_for
from genctl.report.curves import Curves, read_curves
from genctl.report.vector_curves import BOTTOM, HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, draw


def report(capsys, *words) -> dict:
    capsys.readouterr()
    assert main(["report", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "mine")


def test_a_run_gets_its_page_among_its_reports(run, capsys) -> None:
    result = report(capsys, run)
    path = run / "reports" / "report.html"
    text = path.read_text()
    assert (result["out"], result["bytes"]) == (str(path), len(text.encode()))
    assert result["runs"] == [
        {
            "run": str(run),
            "step": 3000,
            "verdict": "mode-collapse",
            "previews": 4,
            "scores": 5,
            "notes": [],
        }
    ]
    config = read_yaml(run / "config.yaml")
    count = sum(p.numel() for p in build_model(config).parameters())
    for shown in (
        f"{count:,} (",
        "arXiv:1511.06434",
        "mnist:ROOT: 60,000 images of 1 × 28 × 28",
        "3,000 steps, 192,000 images, 60 s",
        "all of its 3,000 steps are done",
        "genctl train --preset dcgan-mnist --data &#39;mnist:my data&#39;",
        "diversity goes from 0.9 at step 100 to 0.02 at step 3000",
        "8.25 ± 0.12",
        "23.396",
        "too few",
        "keys differ from the preset",
    ):
        assert shown in text, shown
    assert "http:" not in text
    assert "https:" not in text


def test_the_page_is_well_made(run, capsys) -> None:
    report(capsys, run, run, "--out", run / "both.html")
    for path in (run / "both.html", run / "reports" / "report.html"):
        report(capsys, run)
        page = Page(path.read_text())
        assert page.all("html") == [{"lang": "en"}]
        tables = len(page.all("table"))
        assert tables >= 5
        assert len(page.all("caption")) == tables
        assert {cell.get("scope") for cell in page.all("th")} == {"row", "col"}
        assert all(image["alt"] for image in page.all("img"))
        assert all(image["src"].startswith("data:image/") for image in page.all("img"))
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(set(ids)) == len(ids)
        links = [a["href"][1:] for a in page.all("a")]
        assert set(links) <= set(ids)
        for drawing in [a for a in page.all("svg") if a.get("role") == "img"]:
            assert set(drawing["aria-labelledby"].split()) <= set(ids)
        assert not [
            a for _, a in page.elements if "style" in a or any(k.startswith("on") for k in a)
        ]


@pytest.mark.parametrize(
    ("ended", "shown"),
    [
        ({"by": "signal", "step": 2950}, "at step 2,950 of 9,000: a signal asked it to stop"),
        ({"by": INJECTION, "step": 2950}, "no end is recorded"),
        ({"by": "time", "step": "2950"}, "no end is recorded"),
        ([], "no end is recorded"),
    ],
)
def test_why_it_ended_is_what_the_run_recorded(ended, shown, tmp_path, capsys) -> None:
    run = made_run(tmp_path / "run", previews=0)
    config = (run / "config.yaml").read_text().replace("steps: 3000", "steps: 9000")
    (run / "config.yaml").write_text(config)
    facts = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**facts, "ended": ended}))
    report(capsys, run)
    assert shown in (run / "reports" / "report.html").read_text()


def test_scores_are_seen_as_well(run, capsys) -> None:
    """The curve of PRD in the page's own colours, and the neighbours beside the samples."""
    report(capsys, run)
    page = Page((run / "reports" / "report.html").read_text())
    # Precision upwards, recall to the right, in a square of 260 at (44, 10).
    assert "M304.0 270.0L252.0 62.0L44.0 36.0" in [a.get("d") for a in page.all("path")]
    (words,) = [text for text in page.texts["desc"] if "F8" in text]
    assert words == (
        "F8 (recall) 0.900; F1/8 (precision) 0.800; F1 0.700; "
        "at a recall of one half or more, precision is at most 0.800."
    )
    (picture,) = [a for a in page.all("img") if "nearest" in a["alt"]]
    assert (picture["width"], picture["height"]) == ("90", "30")
    assert "the first is at a distance of 0.25, a copy is within 0.5" in picture["alt"]
    assert "elsewhere" not in "".join(page.texts["td"])


@pytest.mark.parametrize(
    "change",
    [
        {"curve": {"precision": [0.0, float("nan")], "recall": [0.0, 1.0]}},
        {"curve": {"precision": [0.0, 2.0], "recall": [0.0, 1.0]}},
        {"curve": {"precision": ["0 0'/>", 1.0], "recall": [0.0, 1.0]}},
        {"curve": {"precision": [0.0], "recall": [0.0, 1.0]}},
        {"curve": {"precision": [0.0] * 5000, "recall": [0.0] * 5000}},
        {"curve": [INJECTION]},
        {"picture": "../../secret.png"},
        {"picture": "linked/evaluate-00003000-classifier-memorization.png"},
        {"picture": 3},
    ],
)
def test_pictures_of_scores_are_drawn_from_sound_numbers_and_own_files(
    change, tmp_path, capsys
) -> None:
    run = made_run(tmp_path / "run", previews=0)
    path = run / "reports" / "evaluate-00003000-classifier.json"
    node = json.loads(path.read_text())
    node["metrics"]["memorization" if "picture" in change else "prd"].update(change)
    path.write_text(json.dumps(node))
    if "linked" in str(change):
        drawn = run / "reports" / "evaluate-00003000-classifier-memorization.png"
        drawn.rename(tmp_path / "secret.png")
        drawn.symlink_to(tmp_path / "secret.png")
    report(capsys, run)
    text = (run / "reports" / "report.html").read_text()
    assert ("nearest training pictures" in text) is ("curve" in change)
    assert ("F8 (recall)" in text) is ("picture" in change)


def test_what_a_stranger_wrote_stays_text(tmp_path, capsys) -> None:
    run = made_run(tmp_path / "<b onclick=x>", text=INJECTION)
    report(capsys, run, "--out", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert {a["src"].split(",")[0] for a in page.all("img")} == {"data:image/png;base64"}
    assert text.count("window.pwned=2&lt;/script&gt;") >= 8  # it is all there, as text
    assert "{{7*7}}" in text


def test_only_the_pages_own_style_and_script_may_act(run, capsys) -> None:
    report(capsys, run)
    page = Page((run / "reports" / "report.html").read_text())
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        digest = hashlib.sha256(page.texts[tag][0].encode()).digest()
        assert rules[f"{tag}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_many_previews_are_thinned_and_it_is_said(tmp_path, capsys) -> None:
    run = made_run(tmp_path / "run", previews=0)
    noise(run, 60, 24)
    (run / "samples" / "step-00000007.png").write_bytes(b"no picture")
    (tmp_path / "secret.png").write_bytes((run / "samples" / "step-00000009.png").read_bytes())
    (run / "samples" / "step-00000061.png").symlink_to(tmp_path / "secret.png")
    result = report(capsys, run)
    (one,) = result["runs"]
    page = Page((run / "reports" / "report.html").read_text())
    steps = [int(a["data-step"]) for a in page.all("li") if "data-step" in a]
    assert one["previews"] == len(steps) == previews.MOST - 2  # no picture; a link out of the run
    assert steps[0] == 1
    assert 61 not in steps
    assert f"{previews.MOST} of 61 previews, evenly spaced" in one["notes"]
    assert "2 could not be read and were left out" in one["notes"]


def test_pictures_that_do_not_compress_keep_the_page_small(tmp_path) -> None:
    from genctl.engine.run_directory import RunDirectory

    run = made_run(tmp_path / "run", previews=0)
    noise(run, 2, 760)
    found = previews.read_previews(RunDirectory(run), budget=100_000)
    assert len(found.pictures) == 2
    assert sum(len(picture.uri) for picture in found.pictures) < 1.4 * 100_000
    assert all(max(p.width, p.height) <= previews.EDGE for p in found.pictures)
    assert any("JPEG" in note for note in found.notes)
    assert any("made smaller" in note for note in found.notes)


def test_several_runs_stand_side_by_side_where_one_works(
    run, tmp_path, monkeypatch, capsys
) -> None:
    other = made_run(tmp_path / "other", previews=2, rows=12, seed=3)
    monkeypatch.chdir(tmp_path)
    result = report(capsys, run, other)
    assert result["out"] == "report.html"
    assert [r["run"] for r in result["runs"]] == [str(run), str(other)]
    text = (tmp_path / "report.html").read_text()
    assert "2 runs side by side" in text
    assert "mine: loss/generator goes from 0.9" in text
    assert "other: loss/generator goes from 3.9" in text
    assert re.search(r"train\.seed</th><td>0</td><td>3</td>", text)
    assert len(Page(text).all("img")) == 6 + 2  # each preview once, and neighbours of both
    report(capsys, other, run)  # over a page of ours
    (tmp_path / "report.html").write_text("mine")
    assert main(["report", str(run), str(other)]) == 2
    assert (tmp_path / "report.html").read_text() == "mine"


def test_nothing_later_than_the_step_asked_for(run, tmp_path, capsys) -> None:
    result = report(capsys, f"{run}@250", "--out", tmp_path / "x.html")
    (one,) = result["runs"]
    assert (one["step"], one["previews"], one["scores"]) == (200, 2, 0)


def test_a_run_that_lost_parts_still_has_a_page(tmp_path, capsys) -> None:
    run = made_run(tmp_path / "run", rows=3, previews=0)
    (run / "environment.json").write_text("[1, 2")
    (run / "reports" / "evaluate-00000300-x.json").write_text('{"metrics": 3}')
    huge = f'{{"metrics": {{"fid": {{"value": 1{"0" * 400}, "n": [{"[" * 500}{"]" * 500}]}}}}}}'
    (run / "reports" / "evaluate-00000300-y.json").write_text(huge)
    (run / "metrics.jsonl").write_text("")
    (one,) = report(capsys, run)["runs"]
    assert one["verdict"] == "too-short"
    assert any("environment.json was left out" in note for note in one["notes"])
    assert any("evaluate-00000300-x.json was left out" in note for note in one["notes"])


@pytest.mark.parametrize(
    ("words", "code"), [(["nowhere"], 4), (["RUN@worst"], 2), (["RUN"] * 13, 2), (["."], 4)]
)
def test_mistakes_have_their_exit_code(words, code, run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *[w.replace("RUN", str(run)) for w in words], "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not (tmp_path / "report.html").exists()


# --- axes and lines ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "logarithmic", "kind"),
    [
        ([0.1, 0.5, 0.9], False, "linear"),
        ([3.0, 40.0, 66.0], True, "log"),
        ([1e-3, 1.0, 1.0, 1e4], False, "log"),
        ([-1.0, 0.5, 1.0, 5000.0], False, "symlog"),
        ([2.0, 2.0], False, "linear"),
        ([0.0, 0.0], True, "linear"),
        ([-1e30, 1e30], False, "linear"),
    ],
)
def test_an_axis_shows_its_values_and_has_ticks_within(values, logarithmic, kind) -> None:
    values = np.array(values)
    axis = axis_for(values, logarithmic)
    assert axis.kind == kind
    placed = axis.place(np.sort(values))
    assert (placed >= 0).all()
    assert (placed <= 1).all()
    assert (np.diff(placed) >= 0).all()
    ticks = axis.ticks()
    assert len(ticks) >= 2
    assert ticks == sorted(set(ticks))
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert len(ticks) <= 11


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=30))
def test_any_numbers_are_drawn_within_the_frame(values) -> None:
    curves = Curves("x", Path("x"), None, np.arange(len(values)), {"loss/x": np.array(values)})
    kept = [v for v in values if abs(v) < 3e38]
    for drawing in draw([curves], ["x"]) if len(kept) == len(values) else []:
        pairs = re.findall(r"[ML](\S+?) (\S+?)(?=[ML]|$)", drawing.lines[0].path)
        assert len(pairs) == len(values)
        for x, y in pairs:
            assert LEFT <= float(x) <= WIDTH - RIGHT
            assert TOP <= float(y) <= HEIGHT - BOTTOM
        for tick in drawing.y_ticks:
            assert TOP <= tick.at <= HEIGHT - BOTTOM


def test_a_long_log_is_thinned_without_losing_its_peak_or_its_gap(tmp_path) -> None:
    n = 20_000
    values = [0.5] * n
    values[12_345] = 9.0
    with (tmp_path / "metrics.jsonl").open("w") as file:
        for i, value in enumerate(values):
            shown = "null" if 4000 <= i < 6000 else value
            file.write(f'{{"step": {i + 1}, "loss/model": {shown}}}\n')
    (drawing,) = draw([read_curves(tmp_path / "metrics.jsonl")], ["run"])
    (line,) = drawing.lines
    points = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", line.path)]
    assert len(points) <= 1.5 * MOST_POINTS
    assert line.path.count("M") == 2  # before and after the gap
    top = min(points, key=lambda point: point[1])
    expected = LEFT + 12_345 / (n - 1) * (WIDTH - LEFT - RIGHT)
    assert top[0] == pytest.approx(expected, abs=0.1)
    assert TOP <= top[1] < 0.2 * HEIGHT
    assert all(LEFT <= x <= WIDTH - RIGHT for x, _ in points)


# --- colours -------------------------------------------------------------------------------------
def contrast(one: str, two: str) -> float:
    """The ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_can_be_told_from_what_is_behind_it(run, capsys) -> None:
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)
    report(capsys, run)
    (style,) = Page((run / "reports" / "report.html").read_text()).texts["style"]
    schemes = re.findall(r":root \{(.*?)\}", style, flags=re.S)
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", scheme))
        for behind in ("paper", "panel"):
            for name in ("text", "quiet", "accent", "good", "bad"):
                assert contrast(colour[name], colour[behind]) >= 4.5, (name, behind)
            for i in range(8):
                assert contrast(colour[f"s{i}"], colour[behind]) >= 3, (i, behind)
        assert contrast(colour["accent-text"], colour["accent"]) >= 4.5
