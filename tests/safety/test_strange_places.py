"""Runs that were copied, named and started in ways that nobody thinks of."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.engine import checkpoint
from genctl.engine.durable import write_atomically
from genctl.engine.fit import fit
from genctl.engine.schedules import Plateau


def test_a_copy_that_followed_the_links_goes_on(tmp_path):
    config = small("vae", train__steps=2)
    fit(config, None, tmp_path / "run", device="cpu")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")  # ``latest`` is now a folder
    latest = tmp_path / "copy" / "checkpoints" / "latest"
    assert latest.is_dir()
    assert not latest.is_symlink()
    shutil.copytree(latest, latest.with_name("best"))
    checkpoint.unpoint(latest.parent, "best")
    assert not latest.with_name("best").exists()
    longer = small("vae", train__steps=4)
    assert fit(longer, None, tmp_path / "copy", device="cpu", resume="latest").step == 4
    assert os.readlink(latest) == "step-00000004"
    assert checkpoint.find(latest.parent).step == 4


def test_going_back_to_a_step_that_is_the_end_removes_nothing(tmp_path):
    fit(small("vae", train__steps=4, train__checkpoint_every=1), None, tmp_path, device="cpu")
    before = checkpoint.steps(tmp_path / "checkpoints"), (tmp_path / "metrics.jsonl").read_text()
    fit(small("vae", train__steps=1), None, tmp_path, device="cpu", resume="2")
    after = checkpoint.steps(tmp_path / "checkpoints"), (tmp_path / "metrics.jsonl").read_text()
    assert after == before


def test_closed_streams_are_nobody_elses(tmp_path):
    """With stderr closed, the next file opened would be what libraries write their warnings to."""
    command = f"{sys.executable} -m genctl presets list --json 2>&- <&-"
    done = subprocess.run(command, shell=True, capture_output=True, cwd=tmp_path, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["presets"]


def test_a_name_that_is_not_utf8_can_be_told(tmp_path):
    write_atomically(tmp_path / "note", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "note").read_text(encoding="utf-8") == "caf\\udce9"


def test_a_metric_that_is_not_finite_is_no_record_to_beat():
    rule = Plateau(metric="m", patience=2)
    for value in (math.nan, 5.0, 4.0, 3.0):
        rule.observe({"m": value})
    assert rule.state == {"factor": 1.0, "best": 3.0, "waited": 0.0}
