"""How often ``inspect-curves`` names what was done to a run: ``diagnosis.yaml`` trained and judged.

Run by hand::

    python tests/benchmarks/diagnosis.py train FOLDER [--data ROOT]   # what is not there yet
    python tests/benchmarks/diagnosis.py keep FOLDER                  # logs to tests/fixtures/curves
    python tests/benchmarks/diagnosis.py judge [--json FILE]          # of the logs kept

The logs are kept in the repository, so that ``tests/report/test_real_runs.py`` judges them again
whenever a threshold changes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from genctl.report.curves import read_curves
from genctl.report.diagnosis import diagnose

HERE = Path(__file__).parent
KEPT = HERE.parent / "fixtures" / "curves"
PARTS = ("chosen", "held_out")
ROWS = 150
"""Of a log, in training."""


class Made(NamedTuple):
    """One run.

    Attributes:
        part: ``chosen`` or ``held_out``.
        name: its own.
        expected: the names that are accepted, the one meant first.
        survived: whether it was made to fail and did not.
        objective: its preset.
        words: its command.
    """

    part: str
    name: str
    expected: tuple[str, ...]
    survived: bool
    objective: str
    words: tuple[str, ...]


def made(root: str = "ROOT") -> Iterator[Made]:
    """Every run of ``diagnosis.yaml``."""
    node = yaml.safe_load((HERE / "diagnosis.yaml").read_text(encoding="utf-8"))
    places = {"MNIST": f"mnist:{root}", "FASHION": f"fashion-mnist:{root}"}
    places |= {"FACES": f"{root}/faces", "CIFAR": f"{root}/cifar10/train"}
    for part in PARTS:
        for entry in node[part]:
            expected = entry["expected"]
            preset, steps = entry["preset"], entry.get("steps", 1000)
            settings = [*node["settings"].get(preset, ()), *entry.get("set", ())]
            settings += [f"log.every={max(1, steps // ROWS)}", "log.preview_every=0"]
            words = ["train", "--preset", preset, "--steps", str(steps)]
            if data := entry.get("data"):
                words += ["--data", places.get(data, data)]
            words += [word for setting in settings for word in ("--set", setting)]
            names = (expected,) if isinstance(expected, str) else tuple(expected)
            yield Made(part, entry["name"], names, "meant" in entry, preset, tuple(words))


def train(folder: Path, root: str) -> None:
    """Train what is not there yet, one after the other, on one thread."""
    for run in made(root):
        out = folder / run.name
        if (out / "done").exists():
            continue
        words = [sys.executable, "-m", "genctl", *run.words, "--set", "evaluate.measures=[]"]
        words += ["--out", str(out), "--device", "cpu", "--quiet", "--json"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        found = subprocess.run(words, capture_output=True, text=True, env=environment)
        print(run.name, found.returncode, found.stderr.strip()[-300:], flush=True)
        if found.returncode in (0, 6):  # finished, or stopped by numbers that are not finite
            (out / "done").write_text(str(found.returncode))


def keep(folder: Path) -> None:
    """Copy the logs and the configurations that the diagnosis reads."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for run in made():
        source = folder / run.name
        text = {
            "config": (source / "config.yaml").read_text(encoding="utf-8"),
            "rows": "".join(_shortened(line) for line in (source / "metrics.jsonl").open()),
        }
        packed = gzip.compress(json.dumps(text).encode(), mtime=0)
        (KEPT / f"{run.name}.json.gz").write_bytes(packed)


def _shortened(line: str) -> str:
    """A row with four digits a number, which is what a curve shows."""
    row = json.loads(line)
    for key, value in row.items():
        if isinstance(value, float):
            row[key] = float(f"{value:.4g}")
    return json.dumps(row) + "\n"


def verdict(name: str, folder: Path, config: bool = True) -> str:
    """What ``inspect-curves`` says of a kept log, unpacked into a folder.

    Args:
        name: the run's.
        folder: an empty place, for this run alone.
        config: whether the log has its ``config.yaml`` beside it, or stands alone.
    """
    text = json.loads(gzip.decompress((KEPT / f"{name}.json.gz").read_bytes()))
    folder.mkdir(parents=True)
    if config:
        (folder / "config.yaml").write_text(text["config"], encoding="utf-8")
    (folder / "metrics.jsonl").write_text(text["rows"], encoding="utf-8")
    return diagnose(read_curves(folder)).verdict


def judge(folder: Path) -> dict[str, Any]:
    """For each part, what the verdicts are with the configuration beside the log and without."""
    result: dict[str, Any] = {}
    for part in PARTS:
        runs = [run for run in made() if run.part == part]
        result[part] = {
            "runs": len(runs),
            "presets": len({run.objective for run in runs}),
            "healthy": sum(run.expected == ("healthy",) for run in runs),
            "made to fail, yet healthy": [run.name for run in runs if run.survived],
        }
        for config, title in ((True, "with config.yaml"), (False, "without config.yaml")):
            place = folder / part / title.split()[0]
            found = {run.name: verdict(run.name, place / run.name, config) for run in runs}
            result[part][title] = confusion(runs, found)
    return result


def confusion(runs: Sequence[Made], found: Mapping[str, str]) -> dict[str, Any]:
    """The shares named rightly, that of false alarms, the confusion matrix, and what is not right.

    Args:
        runs: of one part.
        found: the verdict of each, by name.
    """
    matrix: dict[str, Counter[str]] = {}
    for run in runs:
        matrix.setdefault(run.expected[0], Counter())[found[run.name]] += 1
    healthy = [run for run in runs if run.expected == ("healthy",)]
    first = [run.name for run in runs if found[run.name] == run.expected[0]]
    accepted = [run.name for run in runs if found[run.name] in run.expected]
    alarms = [run.name for run in healthy if run.name not in accepted]
    return {
        "named rightly, the first name alone": round(len(first) / len(runs), 4),
        "named rightly, any accepted name": round(len(accepted) / len(runs), 4),
        "false alarms among healthy": round(len(alarms) / len(healthy), 4),
        "matrix": {kind: dict(sorted(row.items())) for kind, row in sorted(matrix.items())},
        "another accepted name": {n: found[n] for n in accepted if n not in first},
        "wrong": {run.name: found[run.name] for run in runs if run.name not in accepted},
    }


def main() -> None:
    """See the module's docstring."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "keep", "judge"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--data", default="ROOT")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.what == "train":
        train(given.folder, given.data)
    elif given.what == "keep":
        keep(given.folder)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            result = judge(Path(scratch))
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        print(text, end="")
        if given.json:
            given.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
