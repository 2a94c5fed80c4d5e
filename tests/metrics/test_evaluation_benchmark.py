"""The benchmark of evaluation runs; what its peers compute is tested elsewhere."""

from __future__ import annotations

import json

import evaluation
import pytest


def test_the_command_runs_and_writes_its_record(inception_weights, tmp_path, capsys, monkeypatch):
    calls = []

    def peer(*given):  # the real ones take seconds for the eigenvalues alone
        calls.append(given)
        return {"fid": 50.0, "is": 1.0}

    monkeypatch.setattr(evaluation, "by_torch_fidelity", peer)
    monkeypatch.setattr(evaluation, "by_pytorch_fid", peer)
    monkeypatch.setattr(evaluation.random_inception, "save", lambda path: inception_weights)
    monkeypatch.setattr(evaluation, "memory", evaluation.peak)  # a fresh process takes seconds
    path = tmp_path / "record.json"
    words = ["--images", "3", "--rounds", "1", "--batch", "1", "--dimensions", "64"]
    evaluation.main([*words, "--json", str(path)])
    record = json.loads(path.read_text())
    rows = {row["program"]: row for row in record["pipeline"]}
    assert set(rows) == {"torch-fidelity", "pytorch-fid flow", "genctl fp32", "genctl bf16"}
    assert len(calls) == 2
    for row in rows.values():
        assert row["ratio"] == pytest.approx(rows["torch-fidelity"]["seconds"] / row["seconds"])
        assert row["fid"] > 0
    assert {row["variant"] for row in record["network"]} == {
        "torch-fidelity",
        "genctl fp32",
        "genctl bf16",
    }
    thin, full = record["trace"]
    assert thin["rows"] < thin["dimensions"] < full["rows"]
    for row in record["trace"]:
        assert row["difference_of_traces"] < 1e-5
        assert row["ratio_to_sqrtm"] == pytest.approx(row["sqrtm_seconds"] / row["genctl_seconds"])
    rest = record["rest"]
    assert set(rest["seconds"]) == {"fid", "is", "kid", "pr", "dc", "prd"}
    assert 0 < rest["share_of_fid_is_kid"] < rest["share_of_all"] < 1
    memory = record["memory"]
    assert memory["imported_mib"] <= memory["with_features_mib"] <= memory["peak_mib"]
    assert memory["goal_mib"] == 2048
    assert "genctl bf16" in capsys.readouterr().out
