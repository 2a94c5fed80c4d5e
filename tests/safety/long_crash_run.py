"""The long crash run, by hand: ``python tests/safety/long_crash_run.py --kills 12 --json FILE``.

Kills trainings of every algorithm class with SIGKILL at random instants, checkpointing after every
step so that many kills fall into a write. FILE gathers the counts of several calls.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "presets"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from campaign import CLASSES, Campaign
from fork_server import Server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=12, help="for each class")
    parser.add_argument("--classes", nargs="*", default=list(CLASSES))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=1, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True, help="gathers the counts")
    given = parser.parse_args()
    record = json.loads(given.json.read_text()) if given.json.exists() else {"by_class": {}}
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    server = Server(folder / "server")
    try:
        for name in given.classes:
            began = time.monotonic()
            place = folder / name.replace(" ", "-")
            campaign = Campaign(server, place, name, given.steps, given.every)
            campaign.kill(given.kills, random.Random(f"{given.seed} {name}"), latest=0.4)
            shutil.rmtree(place)
            counts = Counter(record["by_class"].get(name, {})) + campaign.counts
            counts["seconds"] += round(time.monotonic() - began)
            record["by_class"][name] = dict(counts)
            total = sum(map(Counter, record["by_class"].values()), Counter())
            record["in all, every run bit for bit as one without kills"] = dict(total)
            given.json.write_text(json.dumps(record, indent=1) + "\n")
            print(name, dict(campaign.counts), flush=True)
    finally:
        server.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
