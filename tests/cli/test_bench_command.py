"""``genctl bench`` as a user runs it."""

from __future__ import annotations

import json

import pytest

from genctl.cli.main import main
from genctl.report import roof

CONTRACT = {
    "preset",
    "device",
    "precision",
    "steps_per_second",
    "images_per_second",
    "peak_memory_bytes",
    "flops_utilisation",
    "ratio_to_plain",
}
SMALL = ["--set", "model.generator.width=8", "--set", "model.discriminator.width=8"]
BENCH = ["bench", "--preset", "gan", *SMALL, "--device", "cpu", "--seconds", "0.3"]


def run(capsys, *words, code=0):
    capsys.readouterr()
    assert main([*BENCH, *map(str, words), "--json"]) == code
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


def test_json_holds_the_contracts_keys(capsys):
    found = run(capsys, "--precision", "fp32", "--batch-size", 16)
    assert set(found) >= CONTRACT
    assert (found["preset"], found["device"], found["precision"]) == ("gan", "cpu", "fp32")
    assert found["batch_size"] == 16
    assert found["data"] == "digits"
    assert 0 < found["flops_utilisation"] < 1
    assert found["images_per_second"] == pytest.approx(16 * found["steps_per_second"])
    assert "error" not in found


def test_text_tells_what_ran_and_how_it_compares(capsys):
    assert main([*BENCH, "--precision", "fp32"]) == 0
    captured = capsys.readouterr()
    out = captured.out
    assert "gan on cpu in fp32: batch 64 of 1×8×8, data digits" in out
    for word in ("images/s", "plain loop", "ratio", "memory", "GFLOP/s", "discriminator", "loader"):
        assert word in out
    assert "turn by turn" in captured.err
    assert main([*BENCH, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_without_data_pictures_are_random_and_that_is_said(capsys):
    config = ["--set", "data.spec=null", "--set", "data.size=12"]
    found = run(capsys, *config)
    assert found["data"] == "random"
    assert found["shape"] == [1, 12, 12]
    assert main([*BENCH, *config]) == 0
    captured = capsys.readouterr()
    assert "data random" in captured.out
    assert "random pictures" in captured.err


def test_what_makes_the_numbers_worthless_is_said(capsys):
    """Updates that are skipped cost no optimiser; strict data is not exchanged for random ones."""
    found = run(capsys, "--set", "data.spec=no/such/folder", "--strict-data", code=4)
    assert "no/such/folder" in found["error"]["thing"]
    rates = [f"optim.{player}.lr=1e38" for player in ("discriminator", "generator")]
    assert main([*BENCH, "--precision", "fp32", "--set", rates[0], "--set", rates[1]]) == 0
    assert "updates were skipped" in capsys.readouterr().err


def test_gates(capsys):
    met = run(capsys, "--require", "ratio_to_plain>0", "--require", "steps_per_second>=0.001")
    assert [gate["met"] for gate in met["gates"]] == [True, True]
    unmet = run(capsys, "--require", "images_per_second>1e12", code=3)
    assert unmet["error"]["code"] == 3
    assert "images_per_second>1e12" in unmet["error"]["reason"]
    assert set(unmet) >= CONTRACT
    assert main([*BENCH, "--require", "images_per_second>1e12"]) == 3
    captured = capsys.readouterr()
    assert "NOT MET" in captured.out
    assert "error: --require" in captured.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--preset", "gna"], 2, "did you mean 'gan'"),
        (["--data", "no/such/folder"], 4, ""),
        (["--require", "fid<3"], 2, "not taken here"),
        (["--require", "ratio_to_plain"], 2, "expected metric"),
        (["--require", "ratio_to_plain>=baseline"], 2, "no baseline"),
        (["--seconds", "0"], 2, "seconds"),
        (["--set", "train.bath_size=3"], 2, "did you mean 'batch_size'"),
        (["--device", "tpu"], 2, "unknown device"),
    ],
)
def test_bad_usage_is_answered_before_any_measurement(words, code, said, capsys, monkeypatch):
    monkeypatch.setattr(roof, "step_flops", None)
    assert said in run(capsys, *words, code=code)["error"]["reason"]


def test_a_preset_is_needed(capsys):
    assert main(["bench", "--json"]) == 2
    assert "--preset" in json.loads(capsys.readouterr().out)["error"]["reason"]


def test_ctrl_c_is_an_interruption(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(roof, "matrix_peak", interrupt)
    assert main(BENCH) == 130
