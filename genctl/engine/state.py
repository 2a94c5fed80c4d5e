"""From a running training to a checkpoint and back, exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel
from genctl.data.loader import Loader
from genctl.engine import distributed
from genctl.engine.averaging import Average
from genctl.engine.checkpoint import Checkpoint
from genctl.engine.schedules import Plateau
from genctl.engine.update import Updater
from genctl.errors import DataError
from genctl.printable import printable

SCALARS = ("step", "mu_product")
"""What optimisers keep as one number for a parameter; everything else has the parameter's shape."""


@dataclass
class Training:
    """Everything that changes while a run goes on."""

    config: RunConfig
    model: GenerativeModel
    loader: Loader
    average: Average
    update: Updater
    step: int = 0
    seconds_before: float = 0.0  # spent by earlier processes of this run
    final_row: int | None = None  # a last row that is not on the log interval

    def advance(self, logging: bool) -> None:
        """Make the next training step; ``logging`` says that a row follows it."""
        self.update.begin_step(self.step + 1, logging)
        self.update.window.add(self.model.training_step(self.loader, self.update), logging)
        self.step += 1


def snapshot(training: Training, seconds: float) -> Checkpoint:
    """The training's whole state; nothing in it depends on when it is taken but ``seconds``."""
    whole = training.model.state_dict()
    weights = {key: value for key, value in whole.items() if isinstance(value, Tensor)}
    extra = {key: value for key, value in whole.items() if key not in weights}
    sums, counts = training.update.window.state()
    tensors: dict[str, Tensor] = {f"window/{key}": value for key, value in sums.items()}
    tensors |= {f"average/{key}": value for key, value in training.average.history().items()}
    players: dict[str, Any] = {}
    for name, player in training.update.players.items():
        tensors[f"skipped/{name}"] = player.skipped
        for i, state in player.rule.optimiser.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser/{name}/{i}/{key}"] = value
        schedule = player.rule.schedule
        players[name] = {
            "count": player.count,
            "schedule": schedule.state if isinstance(schedule, Plateau) else None,
        }
    generators, numbers = _generators(training.update.device)
    state = {
        "images": training.loader.images,
        "seconds": seconds,
        "position": training.loader.position,
        "players": players,
        "window": counts,
        "ordinary": training.update.window.seen(),
        "average_images": training.average.images_at,
        "final_row": training.final_row,
        "extra": extra,
        "generators": numbers,
        "ranks": distributed.world_size(),
    }
    averaged = training.average.state()
    return Checkpoint(training.step, weights, averaged, {**tensors, **generators}, state)


def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Bring a freshly built training to the state of a checkpoint.

    Raises:
        DataError: the checkpoint does not fit the model of its own configuration.
    """
    try:
        _restore(training, checkpoint)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = printable(" ".join(str(error).split()))
        raise DataError(
            f"checkpoint of step {checkpoint.step}", f"does not fit the model: {reason}"
        ) from None


def _restore(training: Training, checkpoint: Checkpoint) -> None:
    state, device = checkpoint.state, training.update.device
    training.model.load_state_dict({**checkpoint.weights, **state["extra"]})
    training.average.load_state(checkpoint.averaged)
    tensors = checkpoint.optimisers
    training.average.images_at = dict(state["average_images"])
    training.average.load_history(_under(tensors, "average/"), device)
    for name, ring in training.average.rings.items():
        shapes = [p.shape for p in training.average.modules[name].parameters()]
        if any([iterate.shape for iterate in found] != shapes for found in ring):
            raise ValueError(f"the iterates of {name} have other shapes")
    for name, player in training.update.players.items():
        recorded = state["players"][name]
        player.count = recorded["count"]
        player.skipped = tensors[f"skipped/{name}"].to(device)
        if isinstance(player.rule.schedule, Plateau):
            player.rule.schedule.state = dict(recorded["schedule"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(tensors, f"optimiser/{name}/").items():
            index, _, moment = key.partition("/")
            like = player.parameters[int(index)]
            # Fused kernels take the shapes on trust and would read beyond a smaller tensor.
            if tensor.shape != (torch.Size() if moment in SCALARS else like.shape):
                raise ValueError(f"{name}/{key} has the shape {tuple(tensor.shape)}")
            moments.setdefault(int(index), {})[moment] = _laid_out(tensor, like)
        if len({frozenset(found) for found in moments.values()}) > 1:
            raise ValueError(f"the moments of {name} are not complete")
        optimiser = player.rule.optimiser
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
    sums = {key: value.to(device) for key, value in _under(tensors, "window/").items()}
    training.update.window.load_state(sums, state["window"])
    training.update.window.ordinary = set(state["ordinary"])
    training.loader.position = state["position"]
    training.step, training.seconds_before = checkpoint.step, state["seconds"]
    training.final_row = state["final_row"]
    _restore_generators(tensors, state["generators"], device)


def _laid_out(moment: Tensor, parameter: Tensor) -> Tensor:
    """A moment in its parameter's memory format, channels_last say; fused kernels assume it."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Other work inside the block leaves no trace in a training: it may seed and set what it likes.

    What is put back is what opening another model changes: the global generators, and the switches
    of float32 products.
    """
    tensors, numbers = _generators(device)
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        _restore_generators(tensors, numbers, device)


def _generators(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The global generators, which only torch's own modules (dropout) and user code draw from."""
    tensors = {"generator/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["generator/cuda/0"] = torch.cuda.get_rng_state(device)
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert not isinstance(keys, int)
    numpy_state = [kind, [int(key) for key in keys], position, has_gauss, cached]
    return tensors, {"python": [version, list(words), gauss], "numpy": numpy_state}


def _restore_generators(
    tensors: dict[str, Tensor], numbers: dict[str, Any], device: torch.device
) -> None:
    torch.set_rng_state(tensors["generator/cpu"])
    if device.type == "cuda" and "generator/cuda/0" in tensors:
        torch.cuda.set_rng_state(tensors["generator/cuda/0"], device)
    version, words, gauss = numbers["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = numbers["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
