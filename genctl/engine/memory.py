"""Out of memory: recognised, let go of, and answered with the batch that would fit."""

from __future__ import annotations

import gc
import resource
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from genctl.config.load import with_overrides
from genctl.config.schema import RunConfig
from genctl.data.dataset import Dataset
from genctl.engine import distributed
from genctl.engine.construction import build
from genctl.errors import OutOfMemoryError, UsageError

Trial = Callable[[int], object]
"""Tries a batch of that many examples; raises whatever goes wrong."""

LARGEST_TRIED = 2**16
"""For larger batches no fitting one is searched: to try them could bring the machine to a halt."""

SEARCH_SECONDS = 3.0
"""After so long no larger batch is tried."""

WORDS = (
    "out of memory",  # CUDA and MPS
    "can't allocate memory",  # torch on the CPU
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",  # oneDNN, whose kernels need workspaces
    "could not create a memory",
    "alloc_failed",  # cuBLAS and cuDNN handles
    "overflowed",  # sizes beyond any memory
)
"""There is no one exception: these are the words of the libraries below."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the machine or on the device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in WORDS)


def trial_of(config: RunConfig, dataset: Dataset, device: torch.device) -> Trial:
    """What a run needs most memory for, on a training of its own that is thrown away."""

    def trial(batch_size: int) -> None:
        sized = with_overrides(config, {"train.batch_size": batch_size})
        with _no_more_than_there_is(device):
            _try(sized, dataset, device)
        _collect()

    return trial


def _try(config: RunConfig, dataset: Dataset, device: torch.device) -> None:
    training = build(config, dataset, device, resident=False)
    for step in (1, 2):  # the second has the optimiser's moments beside the activations
        training.update.begin_step(step, logging=True)
        training.model.training_step(training.loader, training.update)


def explained(error: BaseException, config: RunConfig, trial: Trial) -> OutOfMemoryError:
    """The error of a training that ran out of memory, saying which batch would fit.

    The caller drops its own references to the training first; the frames of ``error`` are cleared
    here. With several processes no batch is tried: they would wait for each other.
    """
    _let_go(error)
    size = config.train.batch_size
    if distributed.world_size() > 1 or size > LARGEST_TRIED:
        return OutOfMemoryError("memory", _reason(size), "a much smaller --batch-size")
    return not_enough(size, largest_fitting(trial, halves(size)))


def not_enough(batch_size: int, fits: int | None) -> OutOfMemoryError:
    """Batches of this size do not fit, ``fits`` do; None if no batch does."""
    if fits is None:
        remedy = "a smaller data.size or smaller networks, or a device with more memory"
        return OutOfMemoryError("memory", f"{_reason(batch_size)}, nor for any smaller", remedy)
    remedy = f"--batch-size {fits} (for a run already begun: a new one, with --init RUN)"
    return OutOfMemoryError("memory", f"{_reason(batch_size)}; {fits} fits", remedy)


def fitted(config: RunConfig, trial: Trial) -> RunConfig:
    """The configuration with the batch halved until it fits; unchanged where it does as it is.

    Raises:
        OutOfMemoryError: no batch fits.
        UsageError: several processes; one that fails leaves the others waiting.
    """
    if distributed.world_size() > 1:
        reason = "only one process can try batches"
        raise UsageError("train.on_out_of_memory=halve", reason, "leave it, and give --batch-size")
    size = config.train.batch_size
    if size > LARGEST_TRIED:
        reason = f"batches of {size} are too large to be tried"
        raise UsageError("train.on_out_of_memory=halve", reason, f"--batch-size {LARGEST_TRIED}")
    try:
        trial(size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _let_go(error)
    else:
        return config
    fits = largest_fitting(trial, halves(size))
    if fits is None:
        raise not_enough(size, None)
    return with_overrides(config, {"train.batch_size": fits})


def halves(batch_size: int) -> list[int]:
    """1, … a quarter, half of it: smallest first, so that a trial never asks for far too much."""
    sizes = []
    while (batch_size := batch_size // 2) >= 1:
        sizes.append(batch_size)
    return sizes[::-1]


def largest_fitting(trial: Trial, sizes: Iterable[int]) -> int | None:
    """The last of the ascending sizes with which the trial succeeds; None if none does.

    No larger one is tried after ``SEARCH_SECONDS``.
    """
    fits, began = None, time.monotonic()
    for size in sizes:
        if time.monotonic() - began > SEARCH_SECONDS:
            break
        try:
            trial(size)
        except Exception as error:  # noqa: BLE001 - a batch too small for batch norm raises too
            _let_go(error)
            if is_out_of_memory(error):
                break
        else:
            fits = size
    return fits


@contextmanager
def _no_more_than_there_is(device: torch.device) -> Iterator[None]:
    """Let Linux refuse what is more than a quarter of the memory left, where that is tried.

    It promises all there is, and a machine that runs short of it stands still. CUDA reserves
    addresses for all of its memory and could not even start within such a limit.
    """
    statistics = Path("/proc/meminfo")
    if device.type != "cpu" or not statistics.exists():
        yield
        return
    facts = dict(line.split(":") for line in statistics.read_text(encoding="ascii").splitlines())
    free = int(facts["MemAvailable"].split()[0]) * 1024
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = used * resource.getpagesize() + free // 4
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _let_go(error: BaseException | None) -> None:
    """Free what a failed step holds: the frames of its traceback keep every activation."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    _collect()


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _reason(batch_size: int) -> str:
    return f"not enough for batches of {batch_size}"
