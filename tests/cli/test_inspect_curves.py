"""``inspect-curves`` as a user runs it."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from genctl.cli.main import main


def rows(n: int, **changes) -> list[dict]:
    return [
        {
            "step": 1 + 10 * i,
            "images": 640 * i,
            "seconds": float(i),
            "loss/discriminator": 1.1 + 0.05 * (-1) ** i,
            "loss/generator": 0.9,
            "score/real": 0.6,
            "score/fake": 0.4,
            "diversity": 0.9,
            **{key: value(i) for key, value in changes.items()},
        }
        for i in range(n)
    ]


def make_run(folder, content: list[dict]):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {kind: adversarial}\n")
    text = "".join(json.dumps(row) + "\n" for row in content)
    (folder / "metrics.jsonl").write_text(text)
    return folder


@pytest.fixture
def healthy(tmp_path):
    return make_run(tmp_path / "healthy", rows(30))


@pytest.fixture
def collapsed(tmp_path):
    return make_run(tmp_path / "collapsed", rows(30, diversity=lambda i: 0.9 if i < 15 else 0.02))


def inspect(capsys, *words) -> str:
    capsys.readouterr()
    assert main(["inspect-curves", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_one_run_is_one_object(collapsed, capsys) -> None:
    node = json.loads(inspect(capsys, collapsed, "--json"))
    assert set(node) == {"run", "verdict", "findings"}
    assert (node["run"], node["verdict"]) == (str(collapsed), "mode-collapse")
    (finding,) = node["findings"]
    assert set(finding) == {"kind", "confidence", "steps", "evidence", "remedy"}
    assert finding["steps"] == [151, 291]
    assert "diversity" in finding["evidence"]
    assert "--set " in finding["remedy"]


def test_several_runs_keep_the_order_asked(healthy, collapsed, capsys) -> None:
    node = json.loads(inspect(capsys, collapsed, healthy, collapsed / "metrics.jsonl", "--json"))
    assert [run["verdict"] for run in node["runs"]] == ["mode-collapse", "healthy", "mode-collapse"]
    assert [run["run"] for run in node["runs"]][:2] == [str(collapsed), str(healthy)]


def test_a_step_can_be_addressed(collapsed, capsys) -> None:
    node = json.loads(inspect(capsys, f"{collapsed}@150", "--json"))
    assert node["verdict"] == "healthy"
    assert node["findings"][0]["steps"] == [1, 141]


def test_the_plot_goes_into_the_reports_of_a_run(healthy, capsys) -> None:
    text = inspect(capsys, healthy)
    path = healthy / "reports" / "curves.png"
    assert Image.open(path).size[0] == 1200
    assert str(path) in text
    assert "healthy" in text
    assert "score/real" in text
    assert "\x1b" not in text
    assert "loss/discriminator" not in inspect(capsys, healthy, "--quiet").split("seen:")[0]


def test_plot_goes_where_it_is_asked_and_nowhere_else(healthy, collapsed, tmp_path, capsys) -> None:
    inspect(capsys, healthy, collapsed, "--plot", tmp_path / "both.png")
    assert Image.open(tmp_path / "both.png").format == "PNG"
    assert not (healthy / "reports").exists()


def test_a_log_alone_gets_no_reports_folder(healthy, tmp_path, capsys) -> None:
    alone = tmp_path / "alone" / "metrics.jsonl"
    alone.parent.mkdir()
    alone.write_text((healthy / "metrics.jsonl").read_text())
    assert json.loads(inspect(capsys, alone, "--json"))["verdict"] == "healthy"
    assert [p.name for p in alone.parent.iterdir()] == ["metrics.jsonl"]


def test_oddities_are_notes_on_stderr(healthy, capsys) -> None:
    with (healthy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "loss/gen')
    assert main(["inspect-curves", str(healthy), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["findings"][0]["steps"] == [1, 291]
    assert "torn" in captured.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_that_may_only_be_read_is_still_diagnosed(healthy, capsys) -> None:
    healthy.chmod(0o500)
    try:
        assert json.loads(inspect(capsys, healthy, "--json"))["verdict"] == "healthy"
    finally:
        healthy.chmod(0o700)


def test_reports_in_the_way_are_a_warning(healthy, capsys) -> None:
    (healthy / "reports").write_text("a file where the folder should be")
    assert main(["inspect-curves", str(healthy), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "healthy"
    assert "--plot FILE writes elsewhere" in captured.err


def test_a_terminal_without_unicode_gets_plain_characters(healthy) -> None:
    import subprocess
    import sys

    words = [sys.executable, "-m", "genctl", "inspect-curves", str(healthy)]
    done = subprocess.run(
        words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "*" in text
    assert "->" in text  # an arrow in the evidence
    assert not any(byte < 32 and byte != 10 for byte in done.stdout)


@pytest.mark.parametrize(
    ("words", "code"), [(["nowhere"], 4), (["run@worst"], 2), ([], 2), (["table.csv"], 4)]
)
def test_mistakes_have_their_exit_code(words, code, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("step,loss\n1,2\n")
    assert main(["inspect-curves", *words, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
