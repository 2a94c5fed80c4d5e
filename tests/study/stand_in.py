"""Stands in for ``python -m genctl`` in a study's processes: the same words, no training.

``train`` counts to five, remembers how far it came, and ends by SIGTERM as genctl does. A batch
size of 13 diverges, 14 is killed, 15 is a crash that prints no object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 5
COMMAND = (sys.executable, __file__)


def main(words: list[str]) -> int:
    def option(name: str) -> str:
        return words[words.index(name) + 1]

    if words[0] == "evaluate":
        seed = int(Path(words[1], "seed").read_text())
        call(Path(words[1]), "evaluate")
        print(json.dumps({"metrics": {"modes": {"covered": seed + 1, "total": 8, "kl": None}}}))
        return 0
    run = Path(option("--out"))
    run.mkdir(parents=True, exist_ok=True)
    (run / "seed").write_text(option("--seed"))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    progress = run / "progress"
    begun = int(progress.read_text()) if progress.exists() else 0
    call(run, f"train from {begun}")
    if "train.batch_size=13" in words:
        error = {"code": 6, "thing": str(run), "reason": "non-finite numbers", "remedy": ""}
        print(json.dumps({"run": str(run), "step": 1, "error": error}))
        return 6
    if "train.batch_size=14" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    if "train.batch_size=15" in words:
        raise KeyError("a bug")
    for step in range(begun + 1, STEPS + 1):
        progress.write_text(str(step))
        until = time.monotonic() + float(os.environ.get("PAUSE", "0"))
        while time.monotonic() < until and not stopped:
            time.sleep(0.01)
        if stopped:
            return 130
    last = {"step": STEPS, "loss/generator": float(option("--seed"))}
    payload = {"run": str(run), "step": STEPS, "images": 40, "seconds": 1.5, "last": last}
    print(json.dumps(payload))
    return 0


def call(run: Path, what: str) -> None:
    """Remember what was called, for the tests."""
    with (run.parent.parent / "calls.txt").open("a") as file:
        file.write(f"{run.name} {what}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
