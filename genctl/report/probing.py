"""The probe's part that needs a run: its features, the baselines beside them, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genctl.config.load import with_overrides
from genctl.contracts import capabilities
from genctl.data.dataset import Dataset
from genctl.data.loader import Loader, evaluation_batches
from genctl.data.spec import parse_spec
from genctl.engine import precision
from genctl.engine.construction import build_model
from genctl.engine.run import Run
from genctl.errors import DataError, UsageError
from genctl.metrics import linear_probe
from genctl.metrics.features.pooled import pooled_layers
from genctl.metrics.fine_tuning import BATCH, STEPS, fine_tuned_error, last_layer
from genctl.metrics.linear_probe import LabelDraw, draw_labels, probe_errors
from genctl.metrics.measure import UndefinedError
from genctl.metrics.of_model import OfModel, ProbeErrors
from genctl.metrics.probe import OF_MODEL
from genctl.randomness import RandomStream, seed_of
from genctl.report.sides import chosen_rows, open_examples

FEATURES = {
    "discriminator_features": "discriminator",
    "features": "classifier",
    "encode": "encoder",
}
"""Capabilities that give a representation, the first that a model has is probed."""
SETTLING = 50
"""Batches that an untrained network's batch statistics are taken from."""

Say = Callable[[str], None]


def capability_of(run: Run) -> str | None:
    """The capability that gives the features to probe, or None."""
    able = capabilities(run.model)
    return next((name for name in FEATURES if name in able), None)


class Probing:
    """Labelled examples of two splits, and what a run makes of them.

    Args:
        run: its model has a capability of ``FEATURES``.
        real: a data SPEC that names no split: labels are drawn from the training part, errors are
            those of the test part.
        n: test examples at most, chosen by seed.
        seed: decides labels, the untrained network and the order of fine-tuning.
        batch_size: examples at a time.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.

    Raises:
        UsageError: the SPEC names a split.
        DataError: no labels, or not the run's shape.
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
    ) -> None:
        if parse_spec(real).split is not None:
            reason = "names one part, and a probe learns from one and is tested on another"
            raise UsageError(real, reason, "leave out what follows the @")
        self.run, self.seed, self.batch_size = run, seed, batch_size
        capability = capability_of(run)
        assert capability is not None
        self.capability = capability
        opened = (
            open_examples(
                real, run, default_split=split, draws=False, download=download, strict=strict
            )
            for split in ("train", "test")
        )
        self.train, test = opened
        self.test = _part(test, chosen_rows(len(test), n, seed, "probe"))
        for part in (self.train, self.test):
            if part.spec.shape != run.spec.shape:
                reason = f"examples of {part.spec.shape}, expected {run.spec.shape}"
                raise DataError(real, reason, f"use data like that {run.path} was trained on")
            if part.labels is None or part.spec.classes < 2:
                remedy = "give labelled data: a folder of class sub-folders, mnist:ROOT or digits"
                raise DataError(real, "has no labels of two classes", remedy)

    def errors(self, settings: OfModel, say: Say) -> ProbeErrors:
        """Test errors of all classifiers on the model's features and on the baselines.

        Raises:
            UndefinedError: too few examples for any number of labels that was asked for.
        """
        assert self.train.labels is not None
        labels = self.train.labels.numpy()
        draws: dict[tuple[int, int], LabelDraw] = {}
        left_out: dict[int, str] = {}
        for count in settings.probe_labels:
            try:
                drawn = [
                    draw_labels(labels, count, self.seed, k) for k in range(settings.probe_draws)
                ]
            except UndefinedError as error:
                left_out[count] = str(error)
            else:
                draws |= {(count, k): draw for k, draw in enumerate(drawn)}
        if not draws:
            raise UndefinedError("; ".join(dict.fromkeys(left_out.values())))
        used = np.unique(np.concatenate([draw.all for draw in draws.values()]))
        pool, test = _part(self.train, torch.from_numpy(used)), self.test
        local = {
            key: LabelDraw(np.searchsorted(used, d.fit), np.searchsorted(used, d.validate))
            for key, d in draws.items()
        }
        networks = {OF_MODEL: self.run.model, "untrained": self._untrained()}
        found: dict[tuple[str, str, int], list[float]] = {}
        for name, network in networks.items():
            say(f"probe: {name} {FEATURES[self.capability]} features")
            self._probe(name, self._featuriser(network), pool, test, local, found)
            if (all_layers := self._all_layers(network)) is not None:
                say(f"probe: {name}, all layers")
                self._probe(f"{name}, all layers", all_layers, pool, test, local, found)
        say("probe: pixels")
        self._probe("pixels", lambda x: x.flatten(1), pool, test, local, found)
        for name, network in networks.items():
            say(f"probe: fine-tuning the last layer, {name}")
            self._fine_tune(name, network, pool, test, local, found)
        counts = [count for count in settings.probe_labels if count not in left_out]
        protocol = linear_probe.protocol(counts, settings.probe_draws) | {
            "of": f"{self.capability} of {self.run.path.name}, step {self.run.step}",
            "all layers": "activations of every convolution, max-pooled to a grid of 4×4",
            "untrained": "the same architecture with fresh weights and the data's batch statistics",
            "fine_tuning": f"linear head and last layer, Adam, at most {STEPS} steps of {BATCH}",
            "seed": self.seed,
            "training": {"fingerprint": self.train.fingerprint},
            "test": {
                "split": self.test.split,
                "n": len(self.test),
                "fingerprint": self.test.fingerprint,
            },
        }
        return ProbeErrors(found, FEATURES[self.capability], len(test), protocol, left_out=left_out)

    def _probe(
        self,
        name: str,
        features_of: Callable[[Tensor], Tensor],
        pool: Dataset,
        test: Dataset,
        draws: dict[tuple[int, int], LabelDraw],
        found: dict[tuple[str, str, int], list[float]],
    ) -> None:
        (known, labels), (seen, truth) = (
            self._all(part, lambda x: features_of(x).flatten(1).float().cpu())
            for part in (pool, test)
        )
        if not torch.isfinite(known).all() or not torch.isfinite(seen).all():
            raise DataError(f"{name} features", "hold NaN or infinity", "train longer, or another")
        values = known.numpy(), labels.numpy()
        for (count, _), draw in draws.items():
            for kind, error in probe_errors(*values, draw, seen.numpy(), truth.numpy()).items():
                found.setdefault((name, kind, count), []).append(error)

    def _fine_tune(
        self,
        name: str,
        network: nn.Module,
        pool: Dataset,
        test: Dataset,
        draws: dict[tuple[int, int], LabelDraw],
        found: dict[tuple[str, str, int], list[float]],
    ) -> None:
        def features_of(x: Tensor) -> Tensor:
            out: Tensor = getattr(network, self.capability)(x)
            return out.flatten(1)

        device = self.run.device
        parts = (self._all(part, lambda x: x) for part in (pool, test))
        (x, y), held = ((a.to(device), b.to(device)) for a, b in parts)
        layer = last_layer(network, features_of, x[:2])
        if not layer:
            return  # nothing below the features can learn: the probe is all there is
        for (count, k), draw in draws.items():
            rows = torch.from_numpy(draw.all).to(device)
            rng = RandomStream(self.seed, "fine-tuning", count, k)
            error = fine_tuned_error(
                features_of,
                layer,
                (x[rows], y[rows]),
                len(draw.validate),
                held,
                rng,
            )
            found.setdefault((name, "fine-tuned", count), []).append(error)

    def _featuriser(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        def features_of(x: Tensor) -> Tensor:
            with torch.no_grad(), precision.computing(self.run.device, self.run.precision):
                out: Tensor = getattr(network, self.capability)(x)
                return out

        return features_of

    def _all_layers(self, network: nn.Module) -> Callable[[Tensor], Tensor] | None:
        """Radford's features of a convolutional discriminator; the last layer's are among them."""
        forward = self._featuriser(network)

        def features_of(x: Tensor) -> Tensor:
            found = pooled_layers(network, forward, x)
            assert found is not None
            return found

        one = _part(self.test, torch.tensor([0]))
        example = next(evaluation_batches(one, 1, self.run.device)).x
        found = pooled_layers(network, forward, example)
        asked = self.capability == "discriminator_features"
        return features_of if asked and found is not None else None

    def _all(self, part: Dataset, of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """What ``of`` gives for every example of a part, and the labels."""
        binarise = self.run.config.data.binarise
        batches = evaluation_batches(part, self.batch_size, self.run.device, binarise)
        assert part.labels is not None
        return torch.cat([of(batch.x) for batch in batches]), part.labels

    def _untrained(self) -> Any:
        """The run's model before its first step, with other weights.

        Its running batch statistics are those of the data: with the ones of a network that has seen
        nothing the baseline would be needlessly weak.
        """
        config = with_overrides(
            self.run.config, {"train.seed": seed_of(self.seed, "untrained") % 2**31}
        )
        batches = Loader(
            self.train,
            batch_size=config.train.batch_size,
            seed=self.seed,
            device=self.run.device,
            binarise=config.data.binarise,
        )
        with torch.random.fork_rng(), torch.no_grad():
            model = build_model(config).to(self.run.device).train()
            rng = RandomStream(config.train.seed, "initialise", device=self.run.device)
            model.initialise(batches.whole(), rng)
            if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
                for _ in range(SETTLING):
                    getattr(model, self.capability)(next(batches).x)
        return model.eval().requires_grad_(False)


def _part(dataset: Dataset, rows: Tensor) -> Dataset:
    """Some rows of a data set that have a label."""
    if dataset.labels is not None:
        rows = rows[dataset.labels[rows] >= 0]
    labels = None if dataset.labels is None else dataset.labels[rows]
    return replace(
        dataset, examples=dataset.examples[rows], labels=labels, names=None, captions=None
    )
