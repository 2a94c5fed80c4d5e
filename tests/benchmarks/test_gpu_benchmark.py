"""The benchmark for a GPU runs wherever it is tried, on what is small."""

from __future__ import annotations

import json
from pathlib import Path

import gpu


def test_the_command_runs_and_writes_its_record(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "PRESETS", {"vae": [], "gan": []})
    monkeypatch.setattr(gpu.random_inception, "save", lambda path: path)
    monkeypatch.setattr(gpu.evaluation, "networks", lambda *given: [{"given": len(given)}])
    # One network compiled takes longer than all else together; what is asked for is passed on.
    monkeypatch.setattr("genctl.engine.compilation.compile_networks", lambda *_, **__: ["all"])
    path = tmp_path / "record.json"
    small = ["--only", "vae,gan", "--seconds", "0.2", "--batch", "2", "--set", "train.batch_size=4"]
    gpu.main(["--device", "cpu", *small, "--json", str(path)])
    record = json.loads(path.read_text())
    rows = [(row["preset"], row["way"], row["compiled"]) for row in record["training"]]
    assert rows == [  # a CPU records no graphs
        (preset, way, way == "compiled")
        for preset in ("vae", "gan")
        for way in ("eager", "compiled", "graphs")
    ]
    assert all(row["images_per_second"] > 0 for row in record["training"])
    assert record["network"] == [{"given": 4}]
    assert "of peak" in capsys.readouterr().out


def test_the_record_is_a_measurement_or_says_that_there_is_none():
    record = json.loads((Path(gpu.__file__).with_suffix(".json")).read_text())
    for part in ("training", "network"):
        assert record[part] == "not yet measured" or record["device"]
