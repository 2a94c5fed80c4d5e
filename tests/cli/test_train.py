"""``train`` and ``sample`` as a user runs them: exit codes, JSON, and nothing lost when it goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from genctl.cli.main import main

SMALL = [
    *("--set", "model.generator.width=8", "--set", "model.discriminator.width=8"),
    *("--set", "evaluate.measures=[]", "--set", "log.every=5", "--set", "log.preview_every=0"),
    *("--device", "cpu", "--precision", "fp32", "--quiet"),
]


def run(*words):
    return main([str(word) for word in words])


def train(out, *words, steps=6):
    return run("train", "--preset", "quickstart", "--out", out, "--steps", steps, *SMALL, *words)


@pytest.fixture
def trained(tmp_path, capsys):
    assert train(tmp_path / "run") == 0
    capsys.readouterr()
    return tmp_path / "run"


def error_of(capsys):
    """One JSON object on stdout, as scripts read it."""
    return json.loads(capsys.readouterr().out)["error"]


def test_train_prints_json_and_leaves_the_run_directory(tmp_path, capsys):
    assert train(tmp_path / "run", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) >= {"run", "step", "images", "seconds", "stopped_by", "last"}
    assert (result["step"], result["images"], result["stopped_by"]) == (6, 6 * 64, "steps")
    found = {p.name for p in (tmp_path / "run").iterdir()}
    assert found >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "samples",
        "reports",
    }
    assert sorted(os.listdir(tmp_path / "run/checkpoints")) == [
        "latest",
        "step-00000000",
        "step-00000006",
    ]
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 5, 6]
    for key in (
        "loss/discriminator",
        "loss/generator",
        "grad_norm/generator",
        "score/real",
        "score/fake",
        "accuracy/discriminator",
        "diversity",
        "steps/generator",
        "images",
        "seconds",
    ):
        assert key in rows[-1], key


def test_a_finished_run_says_so_and_goes_on_with_steps(trained, capsys):
    assert run("train", "--resume", trained) == 0
    assert "already has its 6 steps" in capsys.readouterr().out
    assert run("train", "--resume", trained, "--steps", 8, "--quiet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["step"] == 8


def test_resume_refuses_another_configuration_and_names_the_keys(trained, capsys):
    code = run(
        "train", "--resume", trained, "--steps", 9, "--json", "--set", "optim.generator.lr=1.0"
    )
    assert code == 2
    assert "optim.generator.lr" in error_of(capsys)["reason"]
    assert run("train", "--resume", trained, "--steps", 7, "--set", "log.every=2", "--quiet") == 0


def test_resume_refuses_other_data(trained, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", images=np.zeros((70, 8, 8, 1), np.uint8))
    code = run(
        "train", "--resume", trained, "--steps", 9, "--data", tmp_path / "other.npz", "--json"
    )
    assert code == 2
    assert "not the data" in error_of(capsys)["reason"]


def test_an_existing_run_is_refused_with_the_remedy(trained, capsys):
    assert train(trained, "--json") == 2
    assert "--resume" in error_of(capsys)["remedy"]


def test_dry_run_of_a_taken_place_is_refused(trained):
    assert train(trained, "--dry-run") == 2


def test_points_for_a_convolutional_network_are_refused(tmp_path, capsys):
    assert run("train", "--preset", "dcgan", "--data", "toy:ring", "--out", tmp_path / "r") == 2
    assert "mlp" in capsys.readouterr().err


def test_a_bug_still_gives_scripts_their_object(capsys, monkeypatch):
    from genctl.config import load

    def bug(*_, **__):
        raise KeyError("oops")

    monkeypatch.setattr(load, "load_config", bug)
    with pytest.raises(KeyError):
        run("train", "--preset", "quickstart", "--json")
    assert "bug" in error_of(capsys)["remedy"]


def test_an_extended_run_remembers_its_new_length(trained, capsys):
    assert (
        run("train", "--resume", trained, "--steps", 10**6, "--max-time", "0.01s", "--quiet") == 0
    )
    capsys.readouterr()
    assert run("train", "--resume", trained, "--max-time", "0.01s", "--quiet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stopped_by"] == "time", "it is not finished"
    assert run("inspect-curves", trained, "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["stopped_by"] == "time"
    assert "its time limit was up" in printed.err
    assert run("report", trained, "--json") == 0
    page = (trained / "reports" / "report.html").read_text()
    assert "of 1,000,000: its time limit was up" in page


def test_a_finished_run_reports_its_last_row(trained, capsys):
    assert run("train", "--resume", trained, "--json") == 0
    assert json.loads(capsys.readouterr().out)["last"]["step"] == 6


def test_a_failed_start_leaves_the_place_free(tmp_path):
    assert train(tmp_path / "run", "--init", tmp_path / "nowhere") == 4
    assert not (tmp_path / "run").exists()


def test_init_takes_another_runs_weights(trained, tmp_path):
    assert train(tmp_path / "next", "--init", trained, steps=1) == 0
    assert run("sample", f"{tmp_path / 'next'}@0", "-n", 4, "--out", tmp_path / "a.npz") == 0
    assert run("sample", trained, "-n", 4, "--out", tmp_path / "b.npz") == 0
    a, b = (np.load(tmp_path / f"{name}.npz")["images"] for name in "ab")
    assert np.array_equal(a, b)


def test_a_score_that_cannot_be_taken_does_not_spoil_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GENCTL_INCEPTION_WEIGHTS", str(tmp_path / "none.pth"))
    words = ["--set", "evaluate.measures=[fid]", "--set", "evaluate.features=inception", "--json"]
    assert train(tmp_path / "run", *words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["stopped_by"] == "steps"
    assert "no score" in printed.err


def test_deterministic_is_recorded(tmp_path):
    import torch

    try:
        assert train(tmp_path / "run", "--deterministic") == 0
        assert "deterministic: true" in (tmp_path / "run/config.yaml").read_text()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_no_memory_is_no_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("genctl.engine.memory.SEARCH_SECONDS", 0.5)
    assert train(tmp_path / "run", "--set", "train.batch_size=100000000000", "--json") == 1
    assert "--batch-size" in error_of(capsys)["remedy"]


def test_resume_or_start(tmp_path):
    assert train(tmp_path / "r", "--resume-or-start", steps=3) == 0
    assert train(tmp_path / "r", "--resume-or-start", steps=5) == 0
    rows = (tmp_path / "r/metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 5


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--preset", "quikstart"], 2, "did you mean 'quickstart'"),
        (["--preset", "quickstart", "--set", "train.stepz=3"], 2, "did you mean 'steps'"),
        (["--preset", "quickstart", "--set", "train.steps=many"], 2, "train.steps"),
        (["--preset", "quickstart", "--set", "nonsense"], 2, "path=value"),
        (["--preset", "quickstart", "--max-time", "10 minutes"], 2, "10 minutes"),
        (["--preset", "quickstart", "--device", "tpu"], 2, "tpu"),
        (["--preset", "quickstart", "--precision", "fp16"], 2, "precision"),
        (["--preset", "quickstart", "--data", "/no/such/folder"], 4, "/no/such/folder"),
        (["--preset", "quickstart", "--bogus"], 2, "bogus"),
        (["--resume", "/no/such/run"], 4, "/no/such/run"),
        (["--resume", "x", "--out", "y"], 2, "--out"),
        (["--preset", "quickstart", "--device", "cpu:foo"], 2, "cpu:foo"),
        (
            ["--preset", "quickstart", "--set", "optim={1: {kind: adam, lr: 0.1}}"],
            2,
            "must be text",
        ),
        (["--preset", "quickstart", "--set", "about=&a [*a]"], 2, "about"),
        (
            ["--preset", "quickstart", "--set", "evaluate.measures=[nonsense]"],
            2,
            "evaluate.measures",
        ),
        ([], 2, "nothing to train"),
        (["--preset", "dcgan"], 2, "--data"),
        (
            ["--preset", "gan", "--set", "optim.critic.kind=adam", "--set", "optim.critic.lr=1.0"],
            2,
            "optim.critic",
        ),
    ],
)
def test_mistakes_have_their_code_and_few_lines(words, code, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", *words) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert text in printed.err
    assert 1 <= len(printed.err.strip().splitlines()) <= 3
    assert "Traceback" not in printed.err
    assert not (tmp_path / "runs").exists(), "a mistake leaves nothing behind"


def test_dry_run_prints_everything_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        run("train", "--preset", "dcgan", "--data", "digits", "--out", out, "--dry-run", "--json")
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["data"]["size"] == 64
    assert found["parameters"]["generator"] > 1e6
    assert found["run"] == str(out)
    assert not out.exists()


def test_max_time_saves_and_exits_0(tmp_path, capsys):
    assert train(tmp_path / "run", "--max-time", "0.01s", "--json", steps=100_000) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["stopped_by"] == "time"
    assert (tmp_path / "run/checkpoints/latest").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM])  # SIGINT, and other moments: tests/safety
def test_a_signal_saves_and_exits_130(number, tmp_path):
    command = [sys.executable, "-m", "genctl", "train", "--preset", "quickstart", "--out", "r"]
    process = subprocess.Popen(
        [*command, "--steps", "1000000", *SMALL, "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    metrics = tmp_path / "r/metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (
        metrics.exists() and metrics.read_text().count("\n") > 2
    ):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    result = json.loads(out)
    assert result["stopped_by"] == "signal"
    latest = os.readlink(tmp_path / "r/checkpoints/latest")
    assert int(latest.split("-")[1]) == result["step"]


def test_a_diverging_run_stops_with_6_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    code = train(
        tmp_path / "run",
        "--set",
        "optim.generator.lr=1e30",
        "--set",
        "train.checkpoint_every=1",
        "--json",
        steps=200,
    )
    assert code == 6
    result = json.loads(capsys.readouterr().out)
    assert result["stopped_by"] == "nonfinite"
    assert run("sample", tmp_path / "run", "-n", 4, "--out", tmp_path / "x.npz") == 0
    assert np.isfinite(np.load(tmp_path / "x.npz")["images"]).all()


def test_one_changed_byte_in_the_checkpoint(trained, capsys):
    path = trained / "checkpoints/latest/weights.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert run("sample", trained, "-n", 4, "--json") == 4
    error = error_of(capsys)
    assert "damaged" in error["reason"]
    assert error["remedy"].endswith("@0")
    assert run("train", "--resume", trained, "--steps", 9) == 4
    assert run("train", "--resume", f"{trained}@0", "--steps", 6, "--quiet") == 0


def test_two_processes_on_one_run(trained, capsys):
    from genctl.engine.run_directory import RunDirectory

    with RunDirectory(trained).lock():
        assert run("train", "--resume", trained, "--steps", 9, "--json") == 2
    assert "another process" in error_of(capsys)["reason"]


def test_a_full_disk_loses_nothing(trained, capsys, monkeypatch):
    from genctl.engine import checkpoint

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "_write_synced", full)
    assert run("train", "--resume", trained, "--steps", 9, "--quiet") == 1
    assert "No space left" in capsys.readouterr().err
    monkeypatch.undo()
    assert run("train", "--resume", trained, "--steps", 9, "--quiet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["step"] == 9


def test_sample_forms(trained, tmp_path, capsys):
    assert run("sample", trained, "-n", 6, "--seed", 3, "--out", tmp_path / "a.npz", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "run": str(trained),
        "step": 6,
        "out": str(tmp_path / "a.npz"),
        "n": 6,
        "seed": 3,
        "weights": "averaged",
    }
    arrays = np.load(tmp_path / "a.npz")["images"]
    assert arrays.shape == (6, 8, 8, 1)
    assert arrays.dtype == np.uint8
    assert run("sample", trained, "-n", 3, "--seed", 3, "--out", tmp_path / "folder") == 0
    singles = [np.array(Image.open(p)) for p in sorted((tmp_path / "folder").iterdir())]
    assert np.array_equal(np.stack(singles), arrays[:3, :, :, 0])
    capsys.readouterr()
    assert run("sample", trained, "-n", 2, "--out", tmp_path / "folder") == 0
    assert "already holds files" in capsys.readouterr().err
    assert run("sample", trained, "-n", 2, "--out", tmp_path / "folder", "--quiet") == 0
    assert capsys.readouterr().err == ""
    assert run("sample", trained, "-n", 6, "--out", tmp_path / "grid.png") == 0
    assert Image.open(tmp_path / "grid.png").size[0] >= 16
    assert run("sample", trained, "-n", 10**9, "--out", tmp_path / "x.gif") == 2
    assert run("sample", f"{trained}@0", "-n", 2, "--out", tmp_path / "b.npz", "--raw-weights") == 0
    assert run("sample", f"{trained}@5", "-n", 2) == 4
    assert run("sample", f"{trained}@²", "-n", 2) == 4
    assert run("sample", trained, "--class", "3") == 2


def test_a_run_goes_on_from_another_folder(tmp_path, monkeypatch):
    """The data's place is kept absolute."""
    np.savez(
        tmp_path / "mine.npz",
        images=np.random.default_rng(0).integers(0, 255, (70, 8, 8, 1), np.uint8),
    )
    monkeypatch.chdir(tmp_path)
    assert train(tmp_path / "run", "--data", "mine.npz", steps=2) == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert run("train", "--resume", tmp_path / "run", "--steps", 3, "--quiet") == 0


def test_sampling_needs_no_data_and_no_original_place(trained, tmp_path):
    moved = tmp_path / "elsewhere" / "with spaces – und Umlaute"
    moved.parent.mkdir()
    shutil.move(trained, moved)
    assert run("sample", moved, "-n", 2, "--out", tmp_path / "m.png") == 0


def test_json_is_one_object_and_nothing_else(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "genctl",
            "train",
            "--preset",
            "quickstart",
            "--steps",
            "3",
            "--out",
            "r",
            "--set",
            "evaluate.measures=[]",
            "--device",
            "cpu",
            "--json",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0
    assert len(done.stdout.strip().splitlines()) == 1
    json.loads(done.stdout)
    assert "\x1b" not in done.stderr, "no control characters without a terminal"
    assert "step 1/3" in done.stderr
