"""The command of the data path's benchmark runs and writes its record."""

from __future__ import annotations

import json

import data
import pytest


def test_the_command_runs_and_writes_its_record(tmp_path, capsys):
    path = tmp_path / "record.json"
    data.main(["--small", "--only", "loader,map,index,mnist", "--json", str(path)])
    record = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == record
    rows = {row["part"]: row for row in record["rows"]}
    assert len(rows) == 5
    share = rows["loader beside a DCGAN step"]
    expected = 100 * share["batch_seconds"] / share["step_seconds"]
    assert share["share_percent"] == pytest.approx(expected)
    folder = rows["index of 2,000 images in a folder"]
    assert 0 < folder["of_which_listing_files"] < folder["seconds_to_first_batch"]
    assert rows["index of 2,000 images in an archive"]["of_which_listing_files"] == 0


def test_both_sides_of_the_comparison_see_every_picture(tmp_path):
    data.write_photographs(tmp_path / "set" / "faces", 70, (40, 50))
    assert data.peer_epoch(tmp_path / "set", 0) == 70
