"""Scores of normal and anomalous examples by a run's model: how strange it finds each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genctl.contracts import capabilities
from genctl.data.spec import Split, parse_spec
from genctl.engine import precision
from genctl.engine.run import Run
from genctl.errors import CapabilityError, DataError, UsageError
from genctl.metrics.of_model import WAYS, AnomalyScores, Array, OfModel
from genctl.report.heldout import HeldOut
from genctl.types import Batch

CAPABILITY_OF_WAY = dict(
    zip(WAYS, ("log_likelihood", "reconstruct", "discriminator_score"), strict=True)
)
MEANING = {
    "likelihood": "−log p(x) in nats",
    "reconstruction": "mean squared distance to the reconstruction, on [−1, 1]",
    "discriminator": "minus the discriminator's score, or its energy",
}


def way_of(run: Run, wanted: str | None) -> str:
    """What the model's examples are judged by.

    Raises:
        CapabilityError: the model cannot do what was asked, or none of the ways.
    """
    able = capabilities(run.model)
    if wanted is not None:
        run.require(CAPABILITY_OF_WAY[wanted])
        return wanted
    for way, capability in CAPABILITY_OF_WAY.items():
        if capability in able:
            return way
    raise CapabilityError(
        str(run.path),
        f"its model, {run.config.model['kind']}, can judge no example: it has neither a likelihood "
        "nor a reconstruction nor a discriminator's score",
        "train a vae, realnvp, pixelcnn or gan preset",
    )


def anomalous_classes(run: Run, settings: OfModel) -> list[int]:
    """Labels that are anomalous: those that were asked for, or those left out in training.

    Raises:
        UsageError: there are none.
    """
    chosen = list(settings.anomaly_classes) or list(run.config.data.without)
    if not chosen:
        raise UsageError(
            "--anomaly",
            "nothing says what is anomalous: no label was left out in training",
            "--anomaly-class 3 or --anomaly-data SPEC; to leave one out: --set data.without=[3]",
        )
    return chosen


def anomaly_scores(
    run: Run, real: str, settings: OfModel, options: dict[str, Any]
) -> AnomalyScores:
    """Scores of both sides, from the test part of each.

    Args:
        run: a trained run.
        real: a data SPEC of normal examples, or of normal and anomalous ones by their labels.
        settings: by what is judged, and what is anomalous.
        options: for ``HeldOut``.

    Raises:
        DataError: no labels to tell the sides apart, or not the run's shape.
        UsageError: nothing says what is anomalous, or a label that there is not.
    """
    way = way_of(run, settings.anomaly_by)
    protocol: dict[str, Any] = {"by": way, "score": MEANING[way]}
    if settings.anomaly_data is not None:
        other = settings.anomaly_data
        source = parse_spec(other)
        split: Split = "all" if source.kind == "path" else "test"
        normal = HeldOut(run, real, **options)
        strange = HeldOut(run, other, default_split=split, whole=True, **options)
        protocol |= {
            "split": normal.dataset.split,
            "anomalous": "other data",
            "of": other,
            "anomalous_split": strange.dataset.split,
            "normal_data": normal.used,
            "anomalous_data": strange.used,
        }
        return AnomalyScores(_scores(normal, way), _scores(strange, way), protocol)
    classes = anomalous_classes(run, settings)
    held = HeldOut(run, real, whole=True, **options)
    labels = held.dataset.labels
    if labels is None:
        remedy = "--anomaly-data SPEC names anomalous examples"
        raise DataError(real, "has no labels to tell anomalous examples by", remedy)
    unknown = [k for k in classes if not 0 <= k < held.dataset.spec.classes]
    if unknown:
        reason = f"there is no such label: they are 0 to {held.dataset.spec.classes - 1}"
        raise UsageError(f"--anomaly-class {unknown[0]}", reason, "")
    chosen = labels[held.rows].numpy()
    strange_rows = torch.isin(labels[held.rows], torch.tensor(classes)).numpy()
    values = _scores(held, way)
    protocol |= {
        "split": held.dataset.split,
        "anomalous": classes,
        "trained_without": list(run.config.data.without),
        "data": held.used,
    }
    normal_rows = ~strange_rows & (chosen >= 0)
    return AnomalyScores(values[normal_rows], values[strange_rows], protocol)


def _scores(held: HeldOut, way: str) -> Array:
    """``(n,)`` float64, high where the model finds an example strange."""
    model: Any = held.run.model
    if way == "likelihood":
        return -held.log_likelihoods().values

    def judge(batch: Batch) -> Tensor:
        with precision.computing(held.run.device, held.run.precision):
            if way == "discriminator":
                return -model.discriminator_score(batch.x).double()
            distance = model.reconstruct(batch.x).double() - batch.x.double()
            return distance.square().flatten(1).mean(1)

    return held.values_of(judge)
