"""Starts several processes that train together, as two machines with a TCP rendezvous would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "genctl"]


def environments(ranks: int, **more: str) -> list[dict[str, str]]:
    """What a launcher sets for each process; the address is all that two machines need to share."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join(sys.path)
    shared = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [{**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(ranks)]


def start(words: list[str], ranks: int = 2, **more: str) -> list[subprocess.Popen[str]]:
    """The same command once for each rank."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen(words, env=env, **pipes) for env in environments(ranks, **more)]


def finish(
    started: list[subprocess.Popen[str]], seconds: float = 600
) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each process."""
    try:
        texts = [process.communicate(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, out, err) for p, (out, err) in zip(started, texts, strict=True)]


def train_all(jobs: dict[str, dict[str, Any]], folder: Path, ranks: int = 2) -> None:
    """Train several configurations, one after the other, in one group of processes.

    Args:
        jobs: by the name of the run: ``preset`` (a file), ``resume`` (None, a step or ``latest``).
        folder: where the runs go.
        ranks: how many processes.
    """
    file = folder / f"jobs-{ranks}.json"
    file.write_text(json.dumps({"folder": str(folder), "jobs": jobs}))
    for code, _, err in finish(start([sys.executable, __file__, str(file)], ranks), 300):
        assert code == 0, err


def _work(file: Path) -> None:
    import torch

    from genctl.config.load import load_config
    from genctl.engine import distributed
    from genctl.engine.fit import fit

    torch.set_num_threads(1)
    asked = json.loads(file.read_text())
    with distributed.processes("cpu"):
        for name, job in asked["jobs"].items():
            config = load_config(job["preset"], job.get("changes", {}))
            out = Path(asked["folder"]) / name
            fit(config, None, out, device="cpu", resume=job.get("resume"))


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
