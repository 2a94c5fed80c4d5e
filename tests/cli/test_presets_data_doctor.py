"""``presets``, ``data`` and ``doctor`` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import genctl
from genctl.cli.main import main
from genctl.config import presets
from genctl.config.load import load_config
from genctl.contracts import CAPABILITIES
from genctl.engine.construction import build_model
from genctl.report.anatomy import build_example, example_spec, parameter_counts

ROOT = Path(genctl.__file__).parent.parent


def run(capsys, *words: object, code: int = 0) -> dict:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def text(capsys, *words: object) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


# --- presets ------------------------------------------------------------------------------------
def test_list_names_every_preset(capsys) -> None:
    rows = run(capsys, "presets", "list")["presets"]
    assert len(rows) == len(presets.paths()) >= 10
    for row in rows:
        assert set(row) == {"name", "family", "about", "capabilities", "data"}
        assert presets.paths()[row["name"]].parent.name == row["family"]
        assert set(row["capabilities"]) <= set(CAPABILITIES)
        assert {"summary", "expect"} <= set(row["about"]), row["name"]
        assert row["name"] in text(capsys, "presets", "list")


def test_list_can_filters_by_capability(capsys) -> None:
    able = {row["name"] for row in run(capsys, "presets", "list", "--can", "encode")["presets"]}
    every = run(capsys, "presets", "list")["presets"]
    assert able == {row["name"] for row in every if "encode" in row["capabilities"]}
    assert "vae" in able
    assert "dcgan" not in able
    error = run(capsys, "presets", "list", "--can", "encod", code=2)["error"]
    assert "did you mean 'encode'" in error["reason"]


@pytest.mark.parametrize("name", sorted(presets.paths()))
def test_show_says_what_a_preset_is_made_of(name, capsys) -> None:
    node = run(capsys, "presets", "show", name)
    assert node["config"]["model"]["kind"] == load_config(name).model["kind"]
    assert all(count > 0 for count in node["parameters"].values())
    for part in node["parts"]:
        file, _, line = part["where"].rpartition(":")
        lines = (ROOT / file).read_text().splitlines()
        assert part["kind"] in "\n".join(lines[int(line) - 1 : int(line) + 4]), part


def test_counts_are_those_of_the_model_that_is_trained() -> None:
    """Against plain counting over a model with memory."""
    config = load_config("dcgan-mnist")
    spec = example_spec(config)
    assert spec.shape == (1, 28, 28)
    counts = parameter_counts(build_example(config, spec))
    found = config.model_copy(update={"found": _found(spec)})
    model = build_model(found)
    for player, count in counts.items():
        assert count == sum(p.numel() for p in getattr(model, player).parameters())
    meta = build_example(config, spec)
    assert all(p.device == torch.device("meta") for p in meta.parameters())


def _found(spec):
    from genctl.config.schema import Found

    return Found(kind=spec.kind, shape=list(spec.shape), classes=10, examples=1, fingerprint="x")


def test_show_takes_settings_and_prints_yaml_that_can_be_trained(capsys, tmp_path) -> None:
    words = ("presets", "show", "quickstart", "--set", "train.steps=7")
    assert run(capsys, *words)["config"]["train"]["steps"] == 7
    printed = text(capsys, *words)
    resolved = yaml.safe_load(printed.split("\npaper ")[0])
    assert resolved["train"]["steps"] == 7
    assert "genctl/models/adversarial.py:" in printed
    assert run(capsys, "presets", "show", "quickstar", code=2)["error"]["code"] == 2


def test_copy_keeps_comments_never_overwrites_and_is_trainable(tmp_path, capsys) -> None:
    out = tmp_path / "new" / "mine.yaml"
    assert run(capsys, "presets", "copy", "quickstart", out) == {
        "preset": "quickstart",
        "out": str(out),
    }
    assert out.read_text() == presets.paths()["quickstart"].read_text()
    assert load_config(str(out)).model == load_config("quickstart").model
    out.write_text("mine")
    error = run(capsys, "presets", "copy", "quickstart", out, code=2)["error"]
    assert "exists" in error["reason"]
    assert out.read_text() == "mine"
    run(capsys, "presets", "copy", "quickstart", tmp_path / "noending", code=2)
    assert run(capsys, "presets", "copy", "vae", tmp_path)["out"] == str(tmp_path / "vae.yaml")


def test_check_passes_every_shipped_preset(capsys) -> None:
    node = run(capsys, "presets", "check")
    assert sorted(node["checked"]) == sorted(presets.paths())


def test_check_reports_every_problem_of_every_file(tmp_path, capsys) -> None:
    bad = {
        "a.yaml": "extends: dcgan\ntrain: {step: 5, batch_size: many}\nmodel: {latent_dims: 3}\n",
        "b.yaml": "extends: dcgan\noptim: {critic: {kind: adam, lr: 0.1}}\n",
        "c.yaml": "model: [",
    }
    for name, content in bad.items():
        (tmp_path / name).write_text(content)
    names = [tmp_path / name for name in bad]
    error = run(capsys, "presets", "check", "vae", *names, "nonesuch", code=2)["error"]
    for expected in (
        "a.yaml: train.step: unknown key; did you mean 'steps'?",
        "a.yaml: train.batch_size:",
        "a.yaml: model.latent_dims: unknown key; did you mean 'latent_dim'?",
        "b.yaml: optim.critic: no such player",
        "c.yaml: not readable as YAML",
        "nonesuch: unknown",
    ):
        assert expected in error["reason"], error["reason"]
    assert "vae:" not in error["reason"]
    assert main(["presets", "check", *map(str, names)]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) >= 6  # one a line


# --- data ---------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / label / f"{i}.png")
    return tmp_path / "pets"


def test_inspect_says_what_is_there(folder, capsys) -> None:
    node = run(capsys, "data", "inspect", folder, "--size", 16)
    assert node["data"] == str(folder)
    assert node["shape"] == [3, 16, 16]
    assert node["classes"] == 2
    assert sum(node["splits"].values()) == 24
    assert set(node["labels"]) == {"cats", "dogs"}
    printed = text(capsys, "data", "inspect", folder, "--size", 16)
    assert "cats" in printed
    assert "3 × 16 × 16" in printed


def test_inspect_names_broken_files_and_strict_refuses_them(folder, capsys) -> None:
    (folder / "cats" / "0.png").write_text("not a picture")
    node = run(capsys, "data", "inspect", folder, "--size", 16, code=0)
    assert len(node["broken"]) == 1
    assert "0.png" in node["broken"][0]["name"]
    assert "0.png" in text(capsys, "data", "inspect", folder, "--size", 16)
    run(capsys, "data", "inspect", folder, "--size", 16, "--strict-data", code=4)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["inspect", "nowhere"], 4),
        (["inspect", "digits", "--size", "big"], 2),
        (["inspect", "toy:nonesuch"], 2),
        (["cache", "digits", "--clear"], 2),
    ],
)
def test_mistakes_with_data_have_their_exit_code(
    words, code, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "data", *words, code=code)["error"]["code"] == code


def test_cache_fills_tells_and_clears(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("genctl.data.build.CACHE_FROM_BYTES", 0)  # however small it is
    assert run(capsys, "data", "cache")["entries"] == []
    assert run(capsys, "data", "cache", folder, "--size", 16)["shape"] == [3, 16, 16]
    held = run(capsys, "data", "cache")
    assert len(held["entries"]) == 1
    assert held["bytes"] > 0
    assert run(capsys, "data", "cache", "--clear")["freed_bytes"] == held["bytes"]
    assert run(capsys, "data", "cache")["entries"] == []


def test_toys_are_inspected_too(capsys) -> None:
    node = run(capsys, "data", "inspect", "toy:ring")
    assert node["shape"] == [2]
    assert "toy" in text(capsys, "data", "inspect", "toy:ring")


# --- doctor -------------------------------------------------------------------------------------
def test_doctor_says_what_is_there(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("GENCTL_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    node = run(capsys, "doctor")
    assert node["torch"] == torch.__version__
    assert node["devices"][-1]["device"] == "cpu"
    assert {"tensorboard", "study", "video", "webdataset", "test"} == set(node["extras"])
    assert node["extras"]["test"] is True
    assert node["inception"]["found"] is False
    assert node["problems"] == []
    assert node["speed"] is None
    printed = text(capsys, "doctor")
    assert f"torch {torch.__version__}" in printed
    assert "not found" in printed


def test_doctor_finds_weights_and_names_what_is_wrong(capsys, tmp_path, monkeypatch) -> None:
    weights = tmp_path / "inception.pth"
    monkeypatch.setenv("GENCTL_INCEPTION_WEIGHTS", str(weights))
    node = run(capsys, "doctor")
    assert node["inception"]["found"] is False
    assert "is no file" in node["problems"][0]
    weights.write_bytes(b"0")
    node = run(capsys, "doctor")
    assert node["inception"] == {
        "found": True,
        "path": str(weights),
        "from": "GENCTL_INCEPTION_WEIGHTS",
    }
    assert node["problems"] == []


def test_probe_measures(capsys) -> None:
    speed = run(capsys, "doctor", "--probe")["speed"]
    assert speed["fp32"] > 0
    assert speed["bf16_over_fp32"] == pytest.approx(speed["bf16"] / speed["fp32"], abs=0.02)


# --- all of them --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [
        ["interpolate"],
        ["inspect-curves"],
        ["presets"],
        ["presets", "show"],
        ["data"],
        ["data", "cache"],
        ["doctor"],
    ],
)
def test_help_answers_without_torch(words) -> None:
    code = (
        "import sys; from genctl.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
