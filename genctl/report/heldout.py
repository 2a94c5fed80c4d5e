"""Held-out examples, prepared as the run prepared its own: likelihoods, labels and clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from genctl.data.loader import evaluation_batches
from genctl.data.spec import Split
from genctl.engine import distributed
from genctl.engine.run import Run
from genctl.errors import DataError
from genctl.metrics.measure import Array, LogLikelihoods, Predictions
from genctl.report.sides import chosen_rows, open_examples, used
from genctl.types import Batch


class HeldOut:
    """The test part of a data set (or the part that the SPEC names), ready for a run's model.

    Args:
        run: decides size, crop and binarisation.
        real: a data SPEC.
        n: at most so many examples, chosen by seed.
        seed: chooses them, and the noise of bounds and estimates.
        batch_size: examples at a time.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.
        default_split: the part to take where the SPEC names none.
        whole: with the labels that the run's training left out.

    Raises:
        DataError: the data does not have the run's shape, or there is no such part.
    """

    def __init__(
        self,
        run: Run,
        real: str,
        *,
        n: int,
        seed: int,
        batch_size: int,
        download: bool = False,
        strict: bool = False,
        default_split: Split = "test",
        whole: bool = False,
    ) -> None:
        self.run, self.seed, self.batch_size = run, seed, batch_size
        self.dataset = open_examples(
            real,
            run,
            default_split=default_split,
            draws=False,
            whole=whole,
            download=download,
            strict=strict,
        )
        if self.dataset.spec.shape != run.spec.shape:
            raise DataError(
                real,
                f"examples of {self.dataset.spec.shape}, expected {run.spec.shape}",
                f"use data like that {run.path} was trained on",
            )
        self.rows = chosen_rows(len(self.dataset), n, seed, "held-out")
        found = self.dataset
        self.used = used(found.fingerprint, len(self.rows), len(found), seed)
        self.used["precision"] = run.precision
        self.warnings: list[str] = []

    def __len__(self) -> int:
        return len(self.rows)

    def log_likelihoods(self) -> LogLikelihoods:
        """Log p(x) of every chosen example, in nats; several processes take batches by turns."""
        values, sizes, kind, detail = [], [], "exact", ""
        for first, batch, mine in self._shared():
            sizes.append(len(batch))
            if mine:
                found = self.run.log_likelihood(batch, self.seed, first)
                values.append(found.values.double().cpu())
                kind, detail = found.kind, found.detail
        nats = distributed.in_turns(values, sizes, torch.empty(0, dtype=torch.float64))
        dimensions, split = self.run.spec.dimensions, self.dataset.split
        how = self._how(detail)
        return LogLikelihoods(nats.numpy(), kind, dimensions, split, how, self.used)

    def values_of(self, judge: Callable[[Batch], Tensor]) -> Array:
        """One number for every chosen example, ``(n,)`` float64, in the order of the rows."""
        values, sizes = [], []
        with torch.inference_mode():
            for _, batch, mine in self._shared():
                sizes.append(len(batch))
                if mine:
                    values.append(judge(batch).double().cpu())
        whole = distributed.in_turns(values, sizes, torch.empty(0, dtype=torch.float64))
        found: Array = whole.numpy()
        return found

    def predictions(self) -> Predictions:
        """Predicted and true labels of every chosen example; −1 where there is no label."""
        classes = self.run.spec.class_names
        if classes and self.dataset.spec.class_names and self.dataset.spec.class_names != classes:
            self.warnings.append("accuracy: the data's class names are not the classifier's")
        return self._most_probable(self.run.model.classify)  # type: ignore[arg-type]

    def clusters(self) -> Predictions:
        """The cluster that the model finds each chosen example in, and the true label."""
        return self._most_probable(self.run.model.cluster)  # type: ignore[arg-type]

    def _most_probable(self, logits_of: Callable[[Tensor], Tensor]) -> Predictions:
        """By the largest logit; several processes take batches by turns."""
        pairs, sizes = [], []
        with torch.inference_mode():
            for _, batch, mine in self._shared():
                sizes.append(len(batch))
                if mine:
                    guess = logits_of(batch.x).argmax(1).cpu()
                    true = torch.full_like(guess, -1) if batch.y is None else batch.y.cpu()
                    pairs.append(torch.stack([guess, true], 1))
        found = distributed.in_turns(pairs, sizes, torch.empty(0, 2, dtype=torch.int64)).numpy()
        return Predictions(found[:, 0], found[:, 1], self.dataset.split, self.used)

    def _shared(self) -> Iterator[tuple[int, Batch, bool]]:
        """Each batch, how many examples came before it, and whether this process does it."""
        for number, (first, batch) in enumerate(self._batches()):
            yield first, batch, number % distributed.world_size() == distributed.rank()

    def _batches(self) -> Iterator[tuple[int, Batch]]:
        """The chosen examples; with each batch, how many were given before it.

        That count addresses the noise, so it does not depend on the batch size.
        """
        keep = torch.zeros(len(self.dataset), dtype=torch.bool)
        keep[self.rows] = True
        seen = given = 0
        binarise = self.run.config.data.binarise
        for batch in evaluation_batches(self.dataset, self.batch_size, self.run.device, binarise):
            chosen = keep[seen : seen + len(batch)].to(batch.x.device)
            seen += len(batch)
            count = int(chosen.sum())
            if not count:
                continue
            if count < len(batch):
                y = None if batch.y is None else batch.y[chosen]
                batch = replace(batch, x=batch.x[chosen], y=y, index=None)
            yield given, batch
            given += count

    def _how(self, detail: str) -> str:
        binarise = self.run.config.data.binarise
        parts = [detail] if detail else []
        if binarise != "none":
            parts.append(f"binarised ({binarise}; test images once, with seed 0)")
        return "; ".join(parts)
