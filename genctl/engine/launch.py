"""What a launcher such as ``torchrun`` says in the environment; known without importing torch."""

from __future__ import annotations

import os

_LOCAL = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
"""Of torchrun, srun and mpirun; the last two may start torchrun."""
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched_rank() -> int:
    """This process's number among those started together; 0 when it was started alone."""
    return int(os.environ["RANK"]) if launched_ranks() > 1 else 0


def launched_ranks() -> int:
    """How many processes were started together; 1 without a launcher."""
    if not all(os.environ.get(name) for name in _NEEDED):
        return 1
    words = os.environ["RANK"], os.environ["WORLD_SIZE"]
    return int(words[1]) if all(word.isdigit() for word in words) else 1


def local_rank() -> int:
    """This process's number on its own machine: which GPU is its own."""
    name = next((name for name in _LOCAL if os.environ.get(name)), "")
    word = os.environ.get(name, "")
    if name != _LOCAL[0] and len(os.environ.get("CUDA_VISIBLE_DEVICES", ",").split(",")) == 1:
        return 0  # a job manager gave each process a GPU that is the only one it sees
    return int(word) if launched_ranks() > 1 and word.isdigit() else 0
