"""Measures that work on the model itself: probe, manifold, anomaly, ceiling of agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genctl.data.dataset import Dataset
from genctl.data.spec import parse_spec
from genctl.engine.run import Run
from genctl.errors import CapabilityError, DataError, GenctlError, UsageError
from genctl.metrics.measure import Evidence, Predictions, UndefinedError
from genctl.metrics.of_model import ProbeErrors
from genctl.report import sides
from genctl.report.anomalies import anomalous_classes, anomaly_scores, way_of
from genctl.report.known_manifold import distances
from genctl.report.probing import FEATURES, Probing, capability_of
from genctl.report.sides import Stored, chosen_rows, open_examples, used

if TYPE_CHECKING:
    from genctl.report.gather import Gathered, Request

MEASURES = ("probe", "manifold", "anomaly")


def report_name(metrics: Mapping[str, Any]) -> str:
    """What stands in a report's file name where no features were compared."""
    mine = [key for key in metrics if key in MEASURES]
    return "-".join(mine) if mine and len(mine) == len(metrics) else "likelihood"


def note_missing(request: Request, found: Gathered) -> None:
    """Note why a measure of this room that was asked for cannot be taken."""
    for need, why in (("probe", _no_probe), ("manifold", _no_manifold), ("anomaly", _no_anomaly)):
        if need in request.needs:
            reason = why(request, found)
            if reason is not None:
                found.missing[need] = reason


def _no_probe(request: Request, found: Gathered) -> GenctlError | None:
    if found.run is None:
        return _no_run(request.generated)
    if capability_of(found.run) is None:
        names = " or ".join(FEATURES.values())
        return CapabilityError(
            str(found.run.path), f"its model has no {names} to take features from", "train a gan"
        )
    return _no_real() if request.real is None else None


def _no_manifold(request: Request, found: Gathered) -> GenctlError | None:
    if request.real is None:
        return _no_real()
    if found.generated is None:
        return found.missing.get("generated")
    if isinstance(found.generated, Stored):
        return DataError(request.generated, "holds features, and pictures are needed")
    if parse_spec(request.real).toy != "triangles":
        reason = "from it no distance to a manifold can be computed"
        return UsageError(request.real, reason, "toy:triangles, for training too")
    return None


def _no_anomaly(request: Request, found: Gathered) -> GenctlError | None:
    if found.run is None:
        return _no_run(request.generated)
    if request.real is None:
        return _no_real()
    asked = request.settings.of_model
    try:
        way_of(found.run, asked.anomaly_by)
        if asked.anomaly_data is None:
            anomalous_classes(found.run, asked)
    except GenctlError as error:
        return error
    return None


def collect(
    evidence: Evidence,
    request: Request,
    found: Gathered,
    needs: set[Any],
    say: Callable[[str], None],
) -> None:
    """Compute what the measures of this room need.

    Raises:
        GenctlError: the real data does not fit.
    """
    options: dict[str, Any] = {
        "n": request.n,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "download": request.download,
        "strict": request.strict,
    }
    asked = request.settings.of_model
    if "probe" in needs:
        assert found.run is not None
        assert request.real is not None
        try:
            evidence.probe = Probing(found.run, request.real, **options).errors(asked, say)
            for count, reason in evidence.probe.left_out.items():
                evidence.warn(f"probe: nothing was learned from {count} labels: {reason}")
        except UndefinedError as error:
            evidence.probe = ProbeErrors({}, reason=str(error))
    if "anomaly" in needs:
        assert found.run is not None
        assert request.real is not None
        say("scores of normal and anomalous examples")
        evidence.anomaly = anomaly_scores(found.run, request.real, asked, options)
        _note_seen(evidence, found.run)
    if "manifold" in needs:
        _manifold(evidence, request, found, say)
    if "asked" in needs and request.real is not None:
        evidence.ceiling = _ceiling(request, found)


def _note_seen(evidence: Evidence, run: Run) -> None:
    """A label that the run has seen in training is no stranger to it than the others."""
    assert evidence.anomaly is not None
    classes = evidence.anomaly.protocol["anomalous"]
    if isinstance(classes, str):
        return  # other data, of which nothing is known
    seen = [str(k) for k in classes if k not in run.config.data.without]
    if seen:
        evidence.warn(
            f"anomaly: label {', '.join(seen)} was not left out in the training of {run.path} "
            f"(data.without is {list(run.config.data.without)}): what it has seen is not strange"
        )


def _manifold(
    evidence: Evidence, request: Request, found: Gathered, say: Callable[[str], None]
) -> None:
    assert request.real is not None
    assert found.generated is not None
    assert not isinstance(found.generated, Stored)
    test = _test_part(request, found)
    if test.manifold is None:
        reason = "as the run sees them its pictures lie beside the manifold"
        raise DataError(request.real, reason, "data.crop=centre, data.binarise=none")
    if test.spec.shape != found.generated.shape:
        reason = f"pictures of {test.spec.shape}, the generated ones are {found.generated.shape}"
        raise DataError(request.real, reason, "toy:triangles?size=N")
    say("distances to the manifold, and of the generator's inverse")
    evidence.manifold, reason = distances(
        found.generated,
        test,
        found.run,
        n=request.n,
        seed=request.seed,
        batch_size=request.batch_size,
    )
    if reason:
        evidence.warn(f"manifold: no recall, because {reason}")


def _ceiling(request: Request, found: Gathered) -> Predictions | None:
    """What the classifier that judges the samples says of real test examples; None without any."""
    assert request.real is not None
    classifier = found.extractor
    if classifier is None or not classifier.classes or sides.has_stored(request.real, alone=True):
        return None
    test = _test_part(request, found)
    if test.labels is None:
        return None
    rows = chosen_rows(len(test), request.n, request.seed, "ceiling")
    guesses = []
    with torch.inference_mode():
        for part in rows.split(request.batch_size):
            logits: Tensor | None = classifier(test.images(part))[1]
            assert logits is not None
            guesses.append(logits.argmax(1).cpu())
    guessed = torch.cat(guesses).numpy()
    data = used(test.fingerprint, len(rows), len(test), request.seed)
    return Predictions(guessed, test.labels[rows].numpy(), test.split, data)


def _test_part(request: Request, found: Gathered) -> Dataset:
    assert request.real is not None
    return open_examples(
        request.real,
        found.run,
        size=request.size,
        default_split="test",
        download=request.download,
        strict=request.strict,
    )


def _no_run(given: str) -> UsageError:
    return UsageError(given, "is not a run, so there is no model to ask", "give a run directory")


def _no_real() -> UsageError:
    return UsageError("REAL", "not given, and real data is needed", "genctl evaluate RUN REAL")
