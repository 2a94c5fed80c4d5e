"""From a running training to a checkpoint and back, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genctl.config.resume import lasting
from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel
from genctl.data.loader import Loader
from genctl.engine import distributed
from genctl.engine.averaging import Average
from genctl.engine.checkpoint import Checkpoint
from genctl.engine.generators import generators, restore_generators
from genctl.engine.held_out import held_out_metrics
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
    held_out: Loader | None = None  # examples that are not trained on, for the log

    def advance(self, logging: bool) -> None:
        """Make the next training step; ``logging`` says that a row follows it."""
        self.update.begin_step(self.step + 1, logging)
        self.update.window.add(self.model.training_step(self.loader, self.update))
        if logging and self.held_out is not None:
            self.held_out.position = self.step  # by the step alone, so there is no more to keep
            batch = next(self.held_out)
            self.update.window.add(held_out_metrics(self.update, batch))
        self.step += 1


def snapshot(
    training: Training, seconds: float, window: Mapping[str, Tensor] | None = None
) -> Checkpoint:
    """The training's whole state; nothing in it depends on when it is taken but ``seconds``.

    With several processes ``window`` holds the log window's sums of each of them.
    """
    whole = training.model.state_dict()
    weights = {key: value for key, value in whole.items() if isinstance(value, Tensor)}
    extra = {key: value for key, value in whole.items() if key not in weights}
    sums, counts = training.update.window.state()
    window = sums if window is None else window
    tensors: dict[str, Tensor] = {f"window/{key}": value for key, value in window.items()}
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
    states, numbers = generators(training.update.device)
    state = {
        "images": training.loader.images,
        "seconds": seconds,
        "position": training.loader.position,
        "players": players,
        "window": counts,
        "average_images": training.average.images_at,
        "final_row": training.final_row,
        "extra": extra,
        "generators": numbers,
        "ranks": distributed.world_size(),
        "config": lasting(training.config),
    }
    averaged = training.average.state()
    return Checkpoint(training.step, weights, averaged, {**tensors, **states}, state)


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
        skipped = tensors[f"skipped/{name}"]
        if skipped.shape != player.skipped.shape or not torch.isfinite(skipped).all():
            raise ValueError(f"skipped/{name} holds no three counts")
        player.skipped = skipped.to(player.skipped)
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
    sums = {key: value.to(device).clone() for key, value in _under(tensors, "window/").items()}
    training.update.window.load_state(sums, state["window"])
    training.loader.position = state["position"]
    training.step, training.seconds_before = checkpoint.step, state["seconds"]
    training.final_row = state["final_row"]
    restore_generators(tensors, state["generators"], device)


def _laid_out(moment: Tensor, parameter: Tensor) -> Tensor:
    """A moment in its parameter's memory format, channels_last say; fused kernels assume it."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
