"""What ``evaluate`` was asked, what there is to answer with, and which measures can be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from genctl.contracts import capabilities
from genctl.data.dataset import Dataset
from genctl.data.spec import parse_spec
from genctl.data.toys import Mixture
from genctl.engine.run import Run, open_run
from genctl.engine.run_directory import split_address
from genctl.errors import CapabilityError, DataError, GenctlError, UsageError
from genctl.metrics.features.extractor import Extractor
from genctl.metrics.measure import Features, Measure, Need, Settings, table
from genctl.report import asked_of_model, extractors, sides
from genctl.report.gates import Gate
from genctl.report.one_space import open_stored, require_one_space, require_told
from genctl.report.parts import Parts, parts_of
from genctl.report.same_rows import share
from genctl.report.sides import Examples, Sampled, Stored

CAPABILITY_OF: dict[Need, str] = {
    "generated": "sample",
    "classes": "sample",
    "likelihood": "log_likelihood",
    "labels": "classify",
    "clusters": "cluster",
}
"""What a run must be able to do for each need."""

OF_HELD_OUT: tuple[Need, ...] = ("likelihood", "labels", "clusters")
"""What is taken of held-out data by asking the run's own model."""

OF_FEATURES: frozenset[Need] = frozenset({"generated", "real", "classes"})
"""Needs that an extractor meets."""


@dataclass(frozen=True)
class Request:
    """Everything that was asked, after the checks that need no data."""

    generated: str
    real: str | None
    measures: Sequence[str] | None
    n: int
    seed: int
    features: str | None
    inception_weights: str | Path | None
    settings: Settings
    gates: Sequence[Gate]
    device: str
    batch_size: int
    precision: str | None
    run_precision: str | None
    raw_weights: bool
    download: bool
    strict: bool
    held_out: str | None = None
    plot: Path | None = None
    size: int | Literal["native"] = "native"
    unlike: bool = False
    """Judge gates on the change even where the baseline has another protocol."""
    run: Run | None = None
    """The model that ``generated`` addresses, where it is open already."""
    known: dict[str, Features] = field(default_factory=dict)
    """Features of real examples that this process has seen, kept by ``genctl.report.kept``."""

    @property
    def needs(self) -> set[Need]:
        """What the measures that were asked for need; all needs when none was named."""
        known = table()
        names = [m.name for m in known.values() if not m.on_request]
        chosen = names if self.measures is None else self.measures
        return {need for name in chosen for need in known[name].needs}


@dataclass
class Gathered:
    """What was opened, and what cannot be had with the reason."""

    run: Run | None = None
    generated: Sampled | Examples | Stored | None = None
    real: Examples | Stored | None = None
    parts: Parts | None = None
    triples: Examples | None = None
    extractor: Extractor | None = None
    missing: dict[Need, GenctlError] = field(default_factory=dict)
    same_rows: bool = False
    """Both sides are the same rows of the same data, some of many."""
    warnings: list[str] = field(default_factory=list)
    """What the reader of the numbers must know of the sides."""


def gather(request: Request) -> Gathered:
    """Open both sides and the extractor, and note for every need why it cannot be met.

    Raises:
        GenctlError: a side cannot be opened, or the extractor that was asked for is not to be had.
    """
    found = Gathered()
    if request.run is not None or sides.is_run(request.generated):
        _open_run(request, found)
    else:
        _open_examples(request, found)
    asked_of_model.note_missing(request, found)
    if request.needs & {"real", "mixture"} and found.generated is not None:
        _open_real(request, found)
        _share_rows(found)
        if stacked_in(found) is not None:
            _open_triples(request, found)
        elif mixture_of(found) is None:
            found.missing.setdefault("mixture", _no_mixture(request.real))
    if "training" in request.needs and found.generated is not None:
        _open_parts(request, found)
    if request.needs & OF_FEATURES and found.generated is not None:
        _open_extractor(request, found)
        require_one_space(found)
    return found


def plan_of(request: Request, found: Gathered) -> list[Measure]:
    """The measures to take: those asked for, or all that apply.

    Raises:
        GenctlError: nothing applies, an argument is missing for what was asked, or nothing that was
            asked can be had for want of a capability.
    """
    if request.measures is None:
        usual = (m for m in table().values() if not m.on_request)
        chosen = [m for m in usual if obstacle(m, found) is None]
        if not chosen:
            reasons = list(found.missing.values())
            able = (e for e in reasons if isinstance(e, CapabilityError))
            raise found.missing.get("real") or next(able, reasons[0])
        return chosen
    chosen = [table()[name] for name in request.measures]
    reasons = [error for m in chosen if (error := obstacle(m, found)) is not None]
    for error in reasons:
        if isinstance(error, UsageError):
            raise error
    if len(reasons) == len(chosen) and all(isinstance(e, CapabilityError) for e in reasons):
        raise reasons[0]
    return chosen


def obstacle(measure: Measure, found: Gathered) -> GenctlError | None:
    """Why a measure cannot be taken, or None."""
    return next((found.missing[need] for need in measure.needs if need in found.missing), None)


def mixture_of(found: Gathered) -> Mixture | None:
    """The mixture of Gaussians that the real side is, or None."""
    toy = found.real.dataset.toy if isinstance(found.real, Examples) else None
    return toy if isinstance(toy, Mixture) else None


def stacked_in(found: Gathered) -> Dataset | None:
    """The stacked pictures that the real side is, or None."""
    dataset = found.real.dataset if isinstance(found.real, Examples) else None
    return dataset if dataset is not None and dataset.channel_classes else None


def _open_run(request: Request, found: Gathered) -> None:
    run = request.run or open_run(
        request.generated,
        request.device,
        raw_weights=request.raw_weights,
        precision_name=request.run_precision,
    )
    found.run = run
    sides.require_native(request.size, str(run.path), f"is a run of {run.spec.shape}")
    able = set(capabilities(run.model))
    for need, capability in CAPABILITY_OF.items():
        if capability not in able:
            found.missing[need] = _cannot(run, capability)
    if not run.model.conditional:
        found.missing["asked"] = CapabilityError(
            str(run.path), "its model is not conditional", "train a cgan preset"
        )
    if "sample" in able:
        found.generated = Sampled(run, request.n, request.seed)
    else:
        found.missing["real"] = found.missing["generated"]
    if request.real is None:
        for need in OF_HELD_OUT:
            found.missing.setdefault(need, _no_real("held-out data"))
    elif sides.has_stored(request.real, alone=True):
        for need in OF_HELD_OUT:
            found.missing.setdefault(need, DataError(request.real, "holds features only"))


def _cannot(run: Run, capability: str) -> CapabilityError:
    try:
        run.require(capability)
    except CapabilityError as error:
        return error
    raise AssertionError(capability)  # only called where it is missing


def _open_examples(request: Request, found: Gathered) -> None:
    path, at = split_address(request.generated)
    if at is not None and at not in ("train", "test", "all"):
        raise DataError(str(path), "not a run: it has no config.yaml", "give a run directory")
    for need in (*OF_HELD_OUT, "asked"):
        found.missing[need] = UsageError(
            request.generated, "is not a run, so there is no model to ask", "give a run directory"
        )
    if _takes_stored(request, request.generated):
        sides.require_native(request.size, request.generated, "holds features")
        found.generated = _stored(request, request.generated, "generated")
        return
    dataset = sides.open_examples(
        request.generated, size=request.size, download=request.download, strict=request.strict
    )
    found.generated = Examples(dataset, request.n, request.seed, request.generated, "generated")


def _stored(request: Request, path: str, role: str) -> Stored:
    return open_stored(path, request.n, request.seed, role, request.precision)


def _takes_stored(request: Request, side: str) -> bool:
    """Stored features win unless ``--features`` asks for others that could be taken."""
    return sides.has_stored(side, alone=request.features is not None)


def _open_real(request: Request, found: Gathered) -> None:
    if request.real is None:
        found.missing["real"] = found.missing["mixture"] = _no_real("real examples")
        return
    assert found.generated is not None
    if sides.has_stored(request.real, alone=not isinstance(found.generated, Stored)):
        found.real = _stored(request, request.real, "real")
        if not isinstance(found.generated, Stored):
            require_told(found.real, request.generated)
        return
    if isinstance(found.generated, Stored):
        require_told(found.generated, request.real)
    dataset = sides.open_examples(
        request.real,
        found.run,
        size=request.size,
        download=request.download,
        strict=request.strict,
    )
    found.real = Examples(dataset, request.n, request.seed, request.real, "real", found.run)


def _share_rows(found: Gathered) -> None:
    if found.generated is None or found.real is None:
        return
    found.same_rows = share(found.generated, found.real)
    if found.same_rows:
        n = len(found.real)
        text = f"both sides are the same data: the same {n} examples of it are taken on both"
        found.warnings.append(text)


def _open_triples(request: Request, found: Gathered) -> None:
    """Real test triples, on which the classifier that counts the modes is judged."""
    assert request.real is not None
    if request.features is None or not sides.is_run(request.features):
        found.missing["mixture"] = _no_classifier(request.real)
        if request.measures is not None and "modes" in request.measures:
            raise found.missing["mixture"]  # before weights of another network are looked for
        return
    dataset = stacked_in(found)
    if dataset is None or not dataset.counts.get("test"):
        return
    named = parse_spec(request.real).split
    whole = request.real.removesuffix(f"@{named}") if named is not None else request.real
    test = sides.open_examples(
        f"{whole}@test",
        found.run,
        size=request.size,
        download=request.download,
        strict=request.strict,
    )
    found.triples = Examples(test, request.n, request.seed, request.real, "triples", found.run)


def _open_parts(request: Request, found: Gathered) -> None:
    if request.real is None:
        found.missing["training"] = _no_real("training examples")
        return
    assert found.generated is not None
    stored = sides.has_stored(request.real, alone=not isinstance(found.generated, Stored))
    if isinstance(found.generated, Stored) and not stored:
        require_told(found.generated, request.real)
    found.parts = parts_of(request, found.run, stored=stored)
    found.warnings += found.parts.warnings
    if found.parts.unfit is not None:
        found.missing["training"] = found.parts.unfit


def _open_extractor(request: Request, found: Gathered) -> None:
    assert found.generated is not None
    if isinstance(found.generated, Stored):
        known = found.generated.features
        if known.values is None:
            found.missing["generated"] = DataError(found.generated.name, "has no `features`")
        if known.log_probabilities is None:
            found.missing["classes"] = DataError(found.generated.name, "has no `probabilities`")
    both = (found.generated, found.real)
    shapes = [side.shape for side in both if isinstance(side, Sampled | Examples)]
    if found.parts is not None:
        shapes += found.parts.shapes
    if not shapes:
        return  # everything is stored, there is nothing to see
    try:
        found.extractor = extractors.choose(
            request.features,
            shapes,
            inception_weights=request.inception_weights,
            device=request.device,
            precision=request.precision or "fp32",
            stacked=stacked_in(found) is not None,
        )
    except CapabilityError as error:
        if request.measures is not None or request.features is not None:
            raise
        found.missing["generated"] = found.missing["classes"] = error
        return
    found.warnings += extractors.doubts(found.extractor, shapes, request.precision)
    if not found.extractor.classes and not isinstance(found.generated, Stored):
        found.missing["classes"] = DataError(
            f"{found.extractor.name} features", "have no classes", "--features inception or RUN"
        )


def _no_real(what: str) -> UsageError:
    return UsageError("REAL", f"not given, and {what} are needed", "genctl evaluate GENERATED REAL")


def _no_classifier(real: str) -> UsageError:
    return UsageError(
        real,
        "its modes are triples of labels, which a classifier of the grey set tells apart",
        "--features RUN of one (genctl train --preset classifier)",
    )


def _no_mixture(real: str | None) -> UsageError:
    return UsageError(
        str(real), "has no modes to count: it is no mixture of Gaussians", "toy:ring, stacked:SPEC"
    )
