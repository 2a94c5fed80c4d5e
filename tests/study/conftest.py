from __future__ import annotations

import json

import pytest
from stand_in import COMMAND

from genctl.cli.main import main
from genctl.study import check, conduct


@pytest.fixture
def stand_in(monkeypatch):
    """Trials run a small program instead of genctl; what they would train is not looked at."""
    monkeypatch.setattr(conduct, "GENCTL", COMMAND)
    monkeypatch.setattr(check, "check", lambda *_, **__: None)


@pytest.fixture
def study(tmp_path, capsys):
    """``study(text, *words)`` → exit code and the object printed; the study is ``tmp_path/out``."""

    def run(text: str, *words: object) -> tuple[int, dict]:
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        options = ["--out", tmp_path / "out", "--device", "cpu", "--quiet", "--json", *words]
        capsys.readouterr()
        code = main(["study", str(file), *map(str, options)])
        return code, json.loads(capsys.readouterr().out)

    return run
