"""The loop that a script of the field runs, as a second implementation of ``Update``.

Float32 in torch's contiguous layout, torch's default optimisers, no player frozen (so the
generator's step also computes the discriminator's weight gradients), ``.item()`` of every loss, no
average of the weights, and pictures prepared one by one by a ``DataLoader``. It drives the very
same ``training_step``: what is compared is how a step is done, never what it computes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from genctl.config.schema import RunConfig
from genctl.contracts import GenerativeModel, LossFn
from genctl.data.dataset import Dataset
from genctl.data.loader import prepared
from genctl.engine.construction import build_model
from genctl.engine.optimisers import next_step
from genctl.networks.layers.gemm_convolution import Conv2d, ConvTranspose2d
from genctl.networks.layers.resampling import Nearest
from genctl.randomness import RandomStream
from genctl.registry import factory
from genctl.types import Batch, NextStep

DESCRIPTION = (
    "float32, contiguous, torch's default optimisers, nothing frozen, .item() of every loss, "
    "no average, pictures one by one through torchvision and a DataLoader"
)

NATIVE: dict[type[nn.Module], type[nn.Module]] = {
    Conv2d: nn.Conv2d,
    ConvTranspose2d: nn.ConvTranspose2d,
    Nearest: nn.Upsample,
}
"""Torch's own layer for each that does its arithmetic in another way."""


class PlainUpdate:
    """``update(player, loss_fn, batch)`` without any of the engine's levers.

    Args:
        model: a contiguous float32 copy, see ``plain_copy``.
        config: the run's configuration; every player needs an optimiser.
        freeze: differentiate only the player's own parameters, as the algorithm needs it. A script
            does not; counting the arithmetic of an algorithm does.
    """

    logging = False

    def __init__(self, model: GenerativeModel, config: RunConfig, *, freeze: bool = False) -> None:
        self.model, self.freeze = model, freeze
        self.clip, self.seed = config.train.clip, config.train.seed
        self.batch_size = config.train.batch_size
        self.device = next(model.parameters()).device
        self.parameters = {
            player: list(
                {id(p): p for m in modules for p in model.get_submodule(m).parameters()}.values()
            )
            for player, modules in model.players.items()
        }
        self.rules = {
            player: factory("optimiser", config.optim[player])(parameters)
            for player, parameters in self.parameters.items()
        }
        self.optimisers = {player: unfused(rule.optimiser) for player, rule in self.rules.items()}
        self.counts = dict.fromkeys(model.players, 0)
        self.losses: dict[str, float] = {}
        self.waiting: dict[str, list[Tensor | None]] | None = None
        self.begin_step(0)

    def begin_step(self, step: int) -> None:
        """The noise of a step is the engine's, so that both loops compute the same numbers."""
        self.step = step
        self.rng = RandomStream(self.seed, "training", step, device=self.device)

    def __call__(
        self, player: str, loss_fn: LossFn, batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """``zero_grad``, loss, ``backward``, ``step``, ``item``."""
        metrics = self._backward(player, loss_fn, batch)
        if self.waiting is None:
            self._step(player)
        else:
            self.waiting[player] = [p.grad for p in self.parameters[player]]
            self.model.zero_grad()  # or the next loss would add to these
        return metrics

    def together(
        self, losses: Mapping[str, LossFn], batch: Batch | None = None
    ) -> dict[str, Tensor]:
        """All gradients at the same weights, then all steps."""
        metrics: dict[str, Tensor] = {}
        with self.at_once():
            for player, loss_fn in losses.items():
                metrics |= self(player, loss_fn, batch)
        return metrics

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Gradients inside, steps on leaving."""
        waiting: dict[str, list[Tensor | None]] = {}
        self.waiting = waiting
        try:
            yield
        finally:
            self.waiting = None
        for player, found in waiting.items():
            for parameter, gradient in zip(self.parameters[player], found, strict=True):
                parameter.grad = gradient
            self._step(player)

    def count(self, player: str) -> int:
        """How many updates the player has had."""
        return self.counts[player]

    def next_step(self, player: str) -> NextStep:
        """What the player's optimiser is about to do."""
        rule = self.rules[player]
        lr = rule.lr * rule.schedule.factor(self.counts[player])
        return next_step(self.optimisers[player], lr, self.parameters[player])

    def mean(self, value: Tensor) -> Tensor:
        """There is one process."""
        return value

    def gather(self, value: Tensor) -> Tensor:
        """There is one process."""
        return value

    def read(self, value: Tensor) -> float:
        """A float."""
        return float(value.detach())

    def _backward(self, player: str, loss_fn: LossFn, batch: Batch | None) -> dict[str, Tensor]:
        if self.freeze:
            self.model.requires_grad_(False)
            for parameter in self.parameters[player]:
                parameter.requires_grad_(True)
        self.optimisers[player].zero_grad()
        with contiguous_only():
            result = loss_fn() if batch is None else loss_fn(batch)
        loss, metrics = result if isinstance(result, tuple) else (result, {})
        loss.backward()
        self.losses[player] = loss.item()
        return {f"loss/{player}": loss.detach()} | {k: v.detach() for k, v in metrics.items()}

    def _step(self, player: str) -> None:
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters[player], self.clip)
        rule = self.rules[player]
        for group in self.optimisers[player].param_groups:
            group["lr"] = rule.lr * rule.schedule.factor(self.counts[player])
        self.optimisers[player].step()
        self.counts[player] += 1
        with torch.no_grad():
            self.model.after_update(player)


@contextmanager
def contiguous_only() -> Iterator[None]:
    """Inside, who asks for channels_last gets contiguous.

    The networks turn their input to channels_last, and a convolution follows its input: contiguous
    weights alone would not make the plain loop plain. A ``TorchFunctionMode`` could do this without
    touching torch's name, but would slow every operation of the loop that is compared with.
    """
    channels_last = torch.channels_last
    torch.channels_last = torch.contiguous_format
    try:
        yield
    finally:
        torch.channels_last = channels_last


def plain_copy(
    model: GenerativeModel, config: RunConfig, *, shortcuts: bool = False
) -> GenerativeModel:
    """The same networks with the same weights, contiguous, in torch's own layers, not compiled.

    Args:
        model: the model being trained.
        config: its configuration, complete.
        shortcuts: keep what makes less work of the same numbers: a critic's slope as a chain of
            transposed layers, which a script gets by differentiating twice.
    """
    copy = build_model(config).to(next(model.parameters()).device)
    copy.load_state_dict(model.state_dict())
    for module in copy.modules():
        module.__class__ = NATIVE.get(type(module), type(module))
        if hasattr(module, "chain") and not shortcuts:
            module.chain = None  # type: ignore[assignment]  # no Tensor, no Module
    copy.to(memory_format=torch.contiguous_format)
    return copy.train()


def unfused(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same kind with the same settings, its implementation left to torch."""
    kind = type(optimiser)
    takes = inspect.signature(kind).parameters.keys() - {"fused", "foreach"}
    settings = {key: value for key, value in optimiser.defaults.items() if key in takes}
    return kind(optimiser.param_groups[0]["params"], **settings)


# --- data ---------------------------------------------------------------------------------------
class Items(torch.utils.data.Dataset[tuple[Tensor, int, int]]):
    """One example at a time: PIL, mirror, ``ToTensor``, ``Normalize``, as torchvision's sets do.

    The pictures are decoded already. A script that reads its files anew in every epoch is slower.
    """

    def __init__(self, dataset: Dataset, config: RunConfig) -> None:
        from torchvision import transforms

        self.data = prepared(dataset, config.data.binarise)
        self.binarise = self.data.binarise
        edges = self.data.spec.shape[1:]
        moves = self.data.margin != (0, 0) and config.data.crop == "random"
        steps: list[Any] = [transforms.RandomCrop(edges)] if moves else []
        if config.data.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self.transform = transforms.Compose([*steps, transforms.ToTensor()])
        self.normalise = transforms.Normalize((0.5,), (0.5,))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        """One example, its label (−1: none), its place."""
        from PIL import Image

        label = -1 if self.data.labels is None else int(self.data.labels[i])
        if self.data.spec.kind == "points":
            return self.data.examples[i], label, i
        rows = self.data.examples[i].permute(1, 2, 0).numpy()
        unit = self.transform(Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows))
        if self.binarise == "threshold":
            unit = (unit > 0.5).float()
        elif self.binarise == "dynamic":
            unit = torch.bernoulli(unit)
        return self.normalise(unit), label, i


def plain_batches(
    dataset: Dataset, config: RunConfig, device: torch.device, workers: int
) -> Iterator[Batch]:
    """Endless shuffled batches of items.

    Args:
        dataset: the examples.
        config: batch size, mirroring, crop and binarisation.
        device: where each batch goes, as float32.
        workers: processes that prepare items; 0 is this one.
    """
    items, size = Items(dataset, config), config.train.batch_size
    few = len(items) < size  # then examples are repeated within a batch
    loader = DataLoader(
        items,
        batch_size=size,
        sampler=RandomSampler(items, replacement=few, num_samples=size if few else None),
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        for x, y, index in loader:
            labels = None if dataset.labels is None else y.to(device)
            yield Batch(x.to(device), y=labels, index=index.to(device))
