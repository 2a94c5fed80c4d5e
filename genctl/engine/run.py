"""A trained run, opened for use: ``open_run("runs/began@1000")``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genctl.config.schema import RunConfig
from genctl.contracts import CAPABILITIES, GenerativeModel, capabilities
from genctl.engine import distributed, precision
from genctl.engine.belonging import OF_THE_MODEL, require_fitting, require_unedited
from genctl.engine.construction import build_model, read_checkpoint
from genctl.engine.device import pick_device
from genctl.engine.run_directory import RunDirectory, split_address
from genctl.errors import CapabilityError, DataError, UsageError
from genctl.latent.interpolation import WalkKind, kind_for, walk
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec, Likelihood

SAMPLE_BATCH = 64
"""Samples computed at a time unless asked otherwise."""


@dataclass(frozen=True)
class Run:
    """A run's model with its weights in place, in evaluation mode.

    Attributes:
        path: the run directory.
        step: the checkpoint's step.
        config: the run's configuration.
        model: the model, on ``device``.
        weights: ``averaged`` or ``raw``.
        device: where it computes.
        precision: the number format it computes in.
    """

    path: Path
    step: int
    config: RunConfig
    model: GenerativeModel
    weights: str
    device: torch.device
    precision: str

    @property
    def spec(self) -> DataSpec:
        """The facts of the data it was trained on."""
        assert self.config.found is not None
        return self.config.found.spec()

    def require(self, capability: str) -> None:
        """Insist on a capability.

        Raises:
            CapabilityError: naming what this model can do, and the presets that can do the thing.
        """
        if not isinstance(self.model, CAPABILITIES[capability]):
            raise CapabilityError(
                str(self.path),
                f"its model, {self.config.model['kind']}, cannot {capability.replace('_', ' ')}; "
                f"it can {', '.join(capabilities(self.model)) or 'only be trained'}",
                lambda: _presets_that_can(capability),
            )

    def stream(self, seed: int, *name: int | str, first_row: int = 0) -> RandomStream:
        """The noise of a command: depends on the seed and the name, not on the batch size."""
        return RandomStream(seed, *name, first_row=first_row, device=self.device)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        condition: Tensor | None = None,
        batch_size: int | None = None,
        first: int = 0,
        shared: bool = True,
    ) -> Tensor:
        """Draw samples number ``first`` to ``first + n``: bit for bit the same whatever ``n`` is.

        The model always computes whole batches that begin at multiples of the batch size, because
        kernels round differently for different shapes. Another ``batch_size`` therefore gives the
        same samples up to that rounding. Several processes take the batches by turns and all get
        the whole, which is bit for bit what one would draw; ``shared=False`` draws all of it here.

        Returns:
            ``(n, *shape)`` on the CPU, images in [−1, 1].
        """
        self.require("sample")
        size = batch_size or SAMPLE_BATCH
        starts = list(range(first - first % size, first + n, size))
        kept = [slice(max(0, first - start), first + n - start) for start in starts]
        mine = slice(distributed.rank(), None, distributed.world_size()) if shared else slice(None)
        parts = []
        for start, rows in list(zip(starts, kept, strict=True))[mine]:
            last = max(first, first + n - 1)
            numbers = torch.arange(start, start + size).clamp(first, last) - first
            part = None if condition is None else condition[numbers].to(self.device)
            rng = self.stream(seed, "sample", first_row=start)
            with precision.computing(self.device, self.precision):
                drawn = self.model.sample(size, rng, part)  # type: ignore[operator]
            parts.append(drawn.float().cpu()[rows])
        nothing = torch.empty(0, *self.spec.shape)
        if not shared:
            return torch.cat([nothing, *parts])
        sizes = [len(range(size)[rows]) for rows in kept]
        return distributed.in_turns(parts, sizes, nothing)

    @torch.no_grad()
    def interpolate(
        self,
        steps: int = 10,
        rows: int = 6,
        seed: int = 0,
        kind: WalkKind | None = None,
        ends: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Decode evenly spaced latents between pairs of ends.

        Args:
            steps: frames of a walk, both ends included.
            rows: walks, between independent draws of the prior.
            seed: of the draws.
            kind: ``slerp`` or ``lerp``; by default what suits the model's prior.
            ends: instead of draws, two examples ``(2, *shape)`` to walk between, by the encoder.
            batch_size: latents decoded at a time.

        Returns:
            ``(rows, steps, *shape)`` on the CPU, images in [−1, 1].

        Raises:
            CapabilityError: the model has no latent space, or no encoder for ``ends``.
        """
        self.require("interpolate")
        model: Any = self.model
        with precision.computing(self.device, self.precision):
            if ends is not None:
                self.require("encode")
                a, b = model.encode(ends.to(self.device)).float().split(1)
            else:
                streams = [self.stream(seed, "interpolate", end) for end in ("from", "to")]
                a, b = (model.sample_latent(rows, stream) for stream in streams)
            kind = kind or kind_for(getattr(getattr(model, "prior", None), "geometry", None))
            latents = walk(a.flatten(1), b.flatten(1), steps, kind).flatten(0, 1)
            parts = [
                model.decode(part.unflatten(1, a.shape[1:])).float().cpu()
                for part in latents.split(batch_size or SAMPLE_BATCH)
            ]
        return torch.cat(parts).unflatten(0, (len(a), steps))

    @torch.no_grad()
    def log_likelihood(self, batch: Batch, seed: int = 0, first: int = 0) -> Likelihood:
        """Nats of each example; ``first`` is the batch's position in its data set."""
        self.require("log_likelihood")
        rng = self.stream(seed, "likelihood", first_row=first)
        with precision.computing(self.device, self.precision):
            found: Likelihood = self.model.log_likelihood(batch, rng)  # type: ignore[operator]
        return found


def open_run(
    address: str | Path,
    device: str = "auto",
    *,
    raw_weights: bool = False,
    precision_name: str | None = None,
) -> Run:
    """Open a run at its latest checkpoint, or at ``RUN@step`` or ``RUN@best``.

    Args:
        address: the run directory, with or without ``@``.
        device: auto, cpu, cuda or mps.
        raw_weights: use the last weights instead of their average.
        precision_name: compute in another number format than fp32.

    Raises:
        DataError: no such run or step, or a damaged checkpoint.
        ConfigError: its config.yaml tells of another model than was trained.
    """
    path, _ = split_address(address)
    config = RunDirectory(path).config()
    if config.found is None:
        raise DataError(str(path), "its config.yaml lacks the facts of the data")
    found = read_checkpoint(address)
    averaged = {} if raw_weights else found.averaged
    require_unedited(config, found.state, path, OF_THE_MODEL)
    require_fitting(config, found.weights, path)
    model = build_model(config)
    try:
        model.load_state_dict({**found.weights, **averaged, **found.state["extra"]})
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(str(path), f"its weights do not fit its config.yaml: {reason}") from None
    where = pick_device(device)
    try:
        resolved = precision.pick_precision(precision_name or "fp32", where)
    except ValueError as error:
        raise UsageError("--precision", str(error)) from None
    precision.configure(resolved)
    model.to(where).eval().requires_grad_(False)
    weights = "averaged" if averaged else "raw"
    return Run(path, found.step, config, model, weights, where, resolved)


def _presets_that_can(capability: str) -> str:
    from genctl.config.catalogue import presets_that_can

    return f"presets that can: {', '.join(presets_that_can(capability)[:6]) or 'none yet'}"
