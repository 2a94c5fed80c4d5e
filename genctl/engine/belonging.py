"""Whether a checkpoint is that of the configuration beside it, seen before a model takes memory.

A ``config.yaml`` may have been edited, or come from anywhere: what it says of widths and depths is
held against what the checkpoint keeps, and against its tensors, while the model is a mere sketch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from genctl import registry
from genctl.config.load import flatten
from genctl.config.resume import edited
from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel
from genctl.engine import checkpoint
from genctl.engine.run_directory import RunDirectory
from genctl.errors import ConfigError, DataError
from genctl.printable import printable

OF_THE_MODEL = ("model.", "found.")
"""The keys that decide what a model is; the others only say how it is trained."""

LARGEST_UNSTORED = 2**28
"""Bytes of buffers that a model makes anew instead of storing them, where its weights are fewer."""

TO_BEGIN, FOR_ONE = 5000, 100
"""The most tensors that a constructor may make, all in all and for one that it keeps; those of
genctl make 30, spectral norm the most."""

_UNFIT = (RuntimeError, LookupError, TypeError, ValueError, ArithmeticError)
"""What constructors raise that are given sizes they cannot be made of."""


class TooMuchError(RuntimeError):
    """A model that is being sketched is larger than it may be."""


def sketch(config: RunConfig, most: int | None = None) -> GenerativeModel | None:
    """The model of a configuration with names and shapes, and no memory behind them.

    Args:
        config: complete with the facts of the data.
        most: give up after so many tensors.

    Returns:
        The model, on the device ``meta``; None if a part of it computes with numbers when it is
        made. No part of genctl's does, somebody else's may.

    Raises:
        TooMuchError: there were more.
    """
    assert config.found is not None
    try:
        with _Counting(most), torch.device("meta"):
            model = registry.factory("model", config.model)(config.found.spec())
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, NotImplementedError) or "meta tensor" in str(error).lower():
            return None
        raise
    assert isinstance(model, GenerativeModel)
    return model


class _Counting(TorchFunctionMode):
    """Gives up after so many tensors: millions of layers have no memory either, but no end."""

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        arguments: tuple[Any, ...] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        made = function(*arguments, **(keywords or {}))
        # Only where a tensor is made: what puts a switch of torch back must not be stopped.
        if self.left is not None and isinstance(made, Tensor):
            self.left -= 1
            if self.left < 0:
                raise TooMuchError("it has more parts than the weights are for")
        return made


def require_unedited(
    config: RunConfig, state: Mapping[str, Any], run: Path, keys: tuple[str, ...] = ("",)
) -> None:
    """Make sure that a configuration says what a checkpoint was trained with.

    Args:
        config: that of the run's ``config.yaml``, or of who goes on with it.
        state: the checkpoint's; those of earlier versions kept no configuration, and pass.
        run: its directory, for the message.
        keys: prefixes of the keys that matter.

    Raises:
        ConfigError: naming the keys that differ.
        DataError: what the checkpoint keeps is no configuration.
    """
    former = state.get("config")
    if former is None:
        return
    try:
        found = edited(config, former)
    except ConfigError as error:
        reason = f"its checkpoint keeps a configuration that is none: {error.reason}"
        remedy = "written by another version of genctl, or damaged; use another checkpoint"
        raise DataError(str(run), printable(reason, 500), remedy) from None
    problems = [
        printable(f"{key}: trained with {before!r}, config.yaml has {now!r}", 500)
        for key, (before, now) in found.items()
        if key.startswith(keys)
    ]
    if problems:
        remedy = f"put what it was back into {run}/config.yaml, or start a new run with --init"
        raise ConfigError(str(run), problems, remedy)


def require_kept(config: RunConfig, run: Path, at: str | None) -> None:
    """``require_unedited`` for a run that is about to go on; one without checkpoints passes.

    Raises:
        ConfigError: naming the keys that differ.
        DataError: no such checkpoint, or its state is damaged.
    """
    folder = RunDirectory(run).checkpoints
    if checkpoint.steps(folder):
        require_unedited(config, checkpoint.read_state(checkpoint.locate(folder, at)), run)


def require_fitting(config: RunConfig, weights: Mapping[str, Tensor], run: Path) -> None:
    """Make sure that a model has just the tensors of a checkpoint, before it is built.

    Raises:
        DataError: it has others.
    """
    reason = _misfit(config, weights)
    if reason:
        short = printable(" ".join(reason.split()))
        raise DataError(str(run), f"its weights do not fit its config.yaml: {short}")


def _misfit(config: RunConfig, weights: Mapping[str, Tensor]) -> str:
    for key, value in flatten(config.model, "model").items():
        if key.endswith(".depth") and isinstance(value, int) and value > len(weights):
            return f"{key}={value}, and they are {len(weights)} tensors"
    try:
        model = sketch(config, TO_BEGIN + FOR_ONE * len(weights))
    except (*_UNFIT, MemoryError) as error:
        return str(error) or type(error).__name__
    if model is None:
        return ""
    own = {key: t.shape for key, t in model.state_dict().items() if isinstance(t, Tensor)}
    for key in [*own, *weights]:
        if key not in weights:
            return f"{key} is missing"
        if key not in own:
            return f"{key} belongs to no part of the model"
        if weights[key].shape != own[key]:
            return f"{key} is {tuple(weights[key].shape)}, and {tuple(own[key])} is needed"
    stored = sum(t.numel() * t.element_size() for t in weights.values())
    unstored = sum(t.numel() * t.element_size() for k, t in model.named_buffers() if k not in own)
    if unstored > max(stored, LARGEST_UNSTORED):
        return f"the model needs {unstored:,} bytes beside {stored:,} of weights"
    return ""


def require_same(config: RunConfig, found: checkpoint.Checkpoint, run: Path) -> None:
    """Make sure that a checkpoint can be gone on with: its keys, then its tensors.

    Raises:
        ConfigError: the configuration was edited.
        DataError: the tensors are those of another model.
    """
    require_unedited(config, found.state, run)
    require_fitting(config, found.weights, run)
