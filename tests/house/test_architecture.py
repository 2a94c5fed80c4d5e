"""The house: imports run downward, rooms stay small, models leave the mechanics to the update."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genctl

ROOT = Path(genctl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = {
    "cli": 7,
    "report": 6,
    "study": 6,
    "engine": 5,
    "metrics": 5,
    "models": 4,
    "networks": 3,
    "objectives": 3,
    "distributions": 3,
    "latent": 3,
    "data": 2,
    "config": 1,
}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def floor_of(module: str) -> int:
    return FLOORS.get(room_of(module), 1)


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("genctl"):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("genctl")]
    return found


def test_files_were_found():
    assert len(FILES) > 60


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path):
    if path.name in ("__init__.py", "__main__.py") and path.parent == ROOT:
        return  # the front door names everything, lazily
    own = "genctl." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for target in imports_of(path):
        same_room = room_of(target) == room_of(own)
        climbs = floor_of(target) > floor_of(own)
        sideways = floor_of(target) == floor_of(own) > 1 and not same_room
        assert not climbs, f"{own} (floor {floor_of(own)}) imports {target} above it"
        assert not sideways, f"{own} imports {target} from a neighbouring room"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_has_to_read_a_long_file(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "helpers", "misc", "common")


def test_models_leave_backward_step_and_item_to_the_engine():
    pattern = re.compile(r"\.(backward|step|item)\(\)")
    for path in [*(ROOT / "models").glob("*.py"), *(ROOT / "objectives").glob("*.py")]:
        assert not pattern.search(path.read_text()), path


def test_help_does_not_import_torch():
    code = (
        "import sys; from genctl.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
