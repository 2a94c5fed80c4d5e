"""What the README says is so: commands, options, presets, places."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from genctl.cli.main import main
from genctl.config import presets
from genctl.config.load import load_config
from genctl.config.presets import parse_value

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", README, flags=re.S)
COMMANDS = [
    line
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("genctl ") and "…" not in line
]


def test_commands_were_found():
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_in_a_command_exists(line, capsys):
    words = shlex.split(line)[1:]
    assert main([words[0], "--help"]) == 0
    text = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{word}\b", text), f"{words[0]} has no {word}"
    if "--preset" in words:
        assert words[words.index("--preset") + 1] in presets.paths()


@pytest.mark.parametrize("setting", re.findall(r"--set ([\w.]+=\S+?)`", README))
def test_every_setting_mentioned_is_valid(setting):
    path, _, value = setting.partition("=")
    load_config("gan", {path: parse_value(value)})


def test_every_place_mentioned_exists():
    for place in re.findall(r"`((?:genctl|presets|tests|examples)/[\w/.]*)`", README):
        assert (ROOT / place).exists(), place
    for place in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (ROOT / place).exists(), place


def test_the_two_commands_are_one_line_each():
    for mark in ("quick start", "test command"):
        block = re.search(rf"<!-- {mark} -->\n```\n(.*?)```", README, flags=re.S)
        assert block
        assert len(block[1].strip().splitlines()) == 1


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci/run").read_text()
    assert "test command" in script
    assert "README.md" in script


def test_the_top_level_holds_nothing_else():
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    top = {name.split("/")[0] for name in listed.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "genctl", "presets", "tests", "examples"}
    assert {name for name in top if not name.startswith(".")} <= allowed
