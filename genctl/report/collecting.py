"""What the planned measures need, computed once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from genctl.metrics.features.extractor import precision_warning
from genctl.metrics.measure import Evidence, Features, Measure, Need
from genctl.report import asked_of_model, kept, stacks
from genctl.report.gather import (
    OF_HELD_OUT,
    Gathered,
    Request,
    mixture_of,
    obstacle,
    stacked_in,
)
from genctl.report.heldout import HeldOut
from genctl.report.sides import Examples, Sampled, Stored


def needs_of(plan: Sequence[Measure], found: Gathered) -> set[Need]:
    """What the measures need that can be taken."""
    return {need for m in plan if obstacle(m, found) is None for need in m.needs}


def sides_of(plan: Sequence[Measure], found: Gathered) -> list[str]:
    """Which of ``generated`` and ``real`` are seen through the extractor."""
    needs = needs_of(plan, found)
    wanted = {"generated": bool(needs & {"generated", "classes"}), "real": "real" in needs}
    return [key for key, asked in wanted.items() if asked and getattr(found, key) is not None]


def name_files(entries: dict[str, Any], found: Gathered) -> None:
    """Beside the row numbers of nearest neighbours, the names of their files, if they have any."""
    for row in entries.get("memorization", {}).get("nearest", ()):
        if isinstance(found.generated, Examples):
            file = found.generated.file_of(row["generated"])
            row |= {} if file is None else {"generated_file": file}
        files = [] if found.parts is None else [found.parts.file_of(i) for i in row["training"]]
        if any(files):
            row["training_files"] = files


def collect(
    request: Request,
    found: Gathered,
    plan: Sequence[Measure],
    seen_sides: Collection[str],
    say: Callable[[str], None],
) -> Evidence:
    """Compute what the planned measures need, each thing once.

    Args:
        request: what was asked.
        found: the sides.
        plan: the measures.
        seen_sides: as ``sides_of`` has them.
        say: told what is being done.

    Raises:
        GenctlError: data that does not fit, or features that are not finite.
    """
    needs = needs_of(plan, found)
    evidence = Evidence(warnings=list(found.warnings))
    for warning in _of_features(found):
        evidence.warn(warning)
    for side, key in ((found.generated, "generated"), (found.real, "real")):
        if key not in seen_sides or side is None:
            continue
        if isinstance(side, Stored):
            setattr(evidence, key, side.features)
        else:
            assert found.extractor is not None
            what = f"{found.extractor.name} features of {len(side)} {key} examples"
            if key == "real":
                assert isinstance(side, Examples)
                seen = kept.real_features(
                    found.extractor, side, request.batch_size, request.known, what, say
                )
            else:
                say(what)
                seen = kept.features_of(
                    found.extractor, side, request.batch_size, classes=_counts_classes(needs, found)
                )
            setattr(evidence, key, seen)
    if "training" in needs and found.parts is not None:
        found.parts.see(evidence, lambda side: _through(found, side, request.batch_size), say)
    if "asked" in needs and isinstance(found.generated, Sampled):
        asked = found.generated.asked
        evidence.asked = None if asked is None else asked.numpy()
    mixture = mixture_of(found)
    if "mixture" in needs and mixture is not None:
        evidence.mixture = mixture.modes.numpy(), mixture.unit
    stacked = stacked_in(found)
    if "mixture" in needs and stacked is not None:
        evidence.stacked = stacks.see(found, stacked, request.batch_size, _through)
    if needs & set(OF_HELD_OUT):
        assert found.run is not None
        assert request.real is not None
        held = HeldOut(
            found.run,
            request.real,
            n=request.n,
            seed=request.seed,
            batch_size=request.batch_size,
            download=request.download,
            strict=request.strict,
        )
        if "likelihood" in needs:
            say(f"log-likelihood of {len(held)} held-out examples")
            evidence.likelihood = held.log_likelihoods()
        if "labels" in needs:
            evidence.predictions = held.predictions()
        if "clusters" in needs:
            evidence.clusters = held.clusters()
        evidence.warnings += [w for w in held.warnings if w not in evidence.warnings]
    asked_of_model.collect(evidence, request, found, needs, say)
    return evidence


def _of_features(found: Gathered) -> list[str]:
    """What must be said of the features themselves, computed or stored."""
    if found.extractor is not None:
        return [found.extractor.warning] if found.extractor.warning else []
    sides = [side for side in (found.generated, found.real) if isinstance(side, Stored)]
    formats = [side.facts["precision"] for side in sides]
    return [precision_warning("bf16")] if "bf16" in formats else []


def _counts_classes(needs: set[Need], found: Gathered) -> bool:
    """Whether a measure reads the class probabilities of generated examples."""
    return "classes" in needs or ("mixture" in needs and stacked_in(found) is not None)


def _through(found: Gathered, side: Examples, batch_size: int) -> Features:
    assert found.extractor is not None
    return kept.features_of(found.extractor, side, batch_size)
