"""Output whose reader goes away, as ``| head`` does."""

from __future__ import annotations

import subprocess
import sys

from campaign import configuration, newest

from genctl.config.load import to_yaml


def test_a_run_outlives_the_reader_of_its_messages(tmp_path):
    file, run = tmp_path / "small.yaml", tmp_path / "run"
    file.write_text(to_yaml(configuration("latent variable", 10)))
    words = ["train", "--preset", file, "--out", run, "--device", "cpu", "--set", "log.every=1"]
    child = subprocess.Popen([sys.executable, "-m", "genctl", *words], stderr=subprocess.PIPE)
    assert child.stderr is not None
    assert child.stderr.readline()
    child.stderr.close()
    assert child.wait(60) == 0
    assert newest(run) == 10
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 10


def test_a_result_without_a_reader_is_no_traceback():
    child = subprocess.Popen(
        [sys.executable, "-m", "genctl", "presets", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.close()
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 1
    assert errors == ""
