"""Data parallelism without a wrapper: a few collectives, called where the update needs them.

``torchrun --nproc-per-node=2 -m genctl train …`` starts the processes; ``processes`` joins them.
Ranks agree on everything by collectives on the CPU (gloo), gradients travel on the device (NCCL on
CUDA). An error on one rank is raised on all of them, and a rank that dies ends the others with a
word instead of a hang.

gloo learns of the dead at once, because its connections close; the loop votes by it before every
step. NCCL does not: a rank that waits for a lost one inside a step, for the mean of gradients say,
waits until it is ended. ``torchrun`` ends it within seconds; a process that was started by other
means waits for ``PATIENCE``. That is not shorter, since nobody can tell a dead rank from one that
takes its time over a folder or a compilation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genctl import errors
from genctl.engine.launch import launched_rank, launched_ranks, local_rank
from genctl.errors import GenctlError, LostProcessError, UsageError

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another: one may be decoding a large folder. Without ``torchrun`` it is
also how long NCCL may take to notice that one was lost."""


@contextmanager
def processes(device: str = "auto") -> Iterator[None]:
    """Work together with the processes of the launcher inside the block; alone, do nothing.

    Raises:
        UsageError: the machine has fewer GPUs than processes.
        LostProcessError: another process died or cannot be reached.
    """
    if launched_ranks() == 1 or dist.is_initialized():
        yield
        return
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if cuda:
        if local_rank() >= torch.cuda.device_count():
            reason = f"this machine has {torch.cuda.device_count()} GPUs"
            thing, remedy = f"process {local_rank()}", "--nproc-per-node, or --device cpu"
            surplus = UsageError(thing, reason, remedy)
            surplus.said_by_first = False  # which has its GPU, and waits
            raise surplus
        torch.cuda.set_device(local_rank())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    with _noticing():
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        with _noticing():
            yield
    except BaseException:
        if not cuda:  # NCCL would wait for those who may wait for this one
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def _noticing() -> Iterator[None]:
    """Turn the failure of a collective into the word that a process was lost."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if not _is_lost_peer(error):
            raise
        raise LostProcessError(
            f"process {launched_rank()} of {launched_ranks()}",
            "another process of this run died or cannot be reached",
            "the last checkpoint is kept: start the same command with --resume RUN",
        ) from error


def _is_lost_peer(error: BaseException) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "nccl", "connection", "peer", "rendezvous"))


def rank() -> int:
    """This process's number, 0 when there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the run directory."""
    return rank() == 0


# --- tensors ------------------------------------------------------------------------------------
def mean(value: Tensor) -> Tensor:
    """Mean over ranks, on the device."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(value: Tensor) -> Tensor:
    """``(n, …)`` of every rank → ``(ranks · n, …)``, in the order of the global batch."""
    if world_size() == 1:
        return value
    value = value.detach().contiguous()
    whole = value.new_empty(world_size() * value.shape[0], *value.shape[1:])
    dist.all_gather(list(whole.split(value.shape[0])), value)
    return whole


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks, in one collective.

    A parameter that has no gradient on one rank has none on any: the losses are the same code.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def broadcast(module: nn.Module) -> None:
    """Give every rank the weights and buffers of rank 0."""
    if world_size() == 1:
        return
    for tensor in [*module.parameters(), *module.buffers()]:
        dist.broadcast(tensor.data, src=0)


def in_turns(parts: Sequence[Tensor], sizes: Sequence[int], like: Tensor) -> Tensor:
    """Put together what the ranks computed by turns.

    Args:
        parts: this rank's pieces: of pieces 0, 1, 2, … it made number rank, rank + ranks, ….
        sizes: rows of every piece, known to all ranks.
        like: an empty tensor ``(0, …)`` of the pieces' shape and dtype, for a rank without any.

    Returns:
        All rows in the order of the pieces, on the CPU of every rank.
    """
    rows = torch.cat([like, *parts]).cpu()
    ranks = world_size()
    if ranks == 1:
        return rows
    most = max(sum(sizes[r::ranks]) for r in range(ranks))
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    found = gather(padded).split(most)
    pieces = [list(found[r][: sum(sizes[r::ranks])].split(sizes[r::ranks])) for r in range(ranks)]
    return torch.cat([like.cpu(), *(pieces[i % ranks][i // ranks] for i in range(len(sizes)))])


# --- agreement ----------------------------------------------------------------------------------
def any_of(*flags: bool) -> list[bool]:
    """Each flag, raised if any rank raised it: stops and saves happen on all ranks or on none."""
    if world_size() == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return [bool(vote) for vote in votes.tolist()]


def together(work: Callable[[], T]) -> T:
    """Every rank does the work; an error on one of them is raised on all.

    Raises:
        GenctlError: that of the first rank that has one, which it names if it is not rank 0.
    """
    if world_size() == 1:
        return work()
    result, failure = None, None
    try:
        result = work()
    except GenctlError as error:
        failure = _described(error)
    except OSError as error:
        found = GenctlError(str(error.filename or "the system"), error.strerror or str(error))
        failure = _described(found)
    for number, described in enumerate(_exchanged(failure)):
        if described is not None:
            raise _raised_by(number, described)
    return result  # type: ignore[return-value]  # set, since no rank failed


def on_main(work: Callable[[], T]) -> T | None:
    """Rank 0 does the work, the others wait for it; its error is raised on all."""
    return together(lambda: work() if is_main() else None)


def from_main(work: Callable[[], T]) -> T:
    """Rank 0 does the work, all get its result, which must be a JSON value."""
    found: T = _exchanged(on_main(work))[0]
    return found


def require_equal(what: str, digest: str, remedy: str = "") -> None:
    """Insist that all ranks computed the same.

    Raises:
        GenctlError: naming the ranks that differ from rank 0.
    """
    found = _exchanged(digest)
    others = [str(i) for i, other in enumerate(found) if other != found[0]]
    if others:
        reason = f"differ between process 0 and {', '.join(others)}"
        error = GenctlError(what, reason, remedy)
        error.said_by_first = True
        raise error


def digest(tensors: Iterable[Tensor]) -> str:
    """A checksum of tensors, equal if and only if every bit is."""
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _exchanged(value: Any) -> list[Any]:
    """The JSON value of every rank, by rank."""
    if world_size() == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = gather(torch.tensor([len(text)])).tolist()
    padded = torch.zeros(max(lengths), dtype=torch.uint8)
    padded[: len(text)] = text
    rows = gather(padded[None])
    return [
        json.loads(bytes(row[:length].tolist())) for row, length in zip(rows, lengths, strict=True)
    ]


def _described(error: GenctlError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "thing": error.thing,
        "reason": error.reason,
        "remedy": error.remedy,
        "problems": getattr(error, "problems", None),
    }


def _raised_by(number: int, found: dict[str, Any]) -> GenctlError:
    """The error as the rank that met it raised it."""
    thing = found["thing"] if number == 0 else f"process {number}: {found['thing']}"
    kind: Any = getattr(errors, found["kind"], GenctlError)
    reason = found["reason"] if found["problems"] is None else found["problems"]
    error: GenctlError = kind(thing, reason, found["remedy"])
    error.said_by_first = True
    return error
