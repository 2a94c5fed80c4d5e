"""``evaluate``: gather both sides, take the measures, judge the gates, write the protocol.

The numbers come from ``genctl.metrics``; here it is only decided what is compared with what. The
protocol travels with every number, because two numbers of different protocol are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from genctl.engine import distributed
from genctl.engine.run_directory import RunDirectory
from genctl.errors import DataError, UsageError
from genctl.metrics.features.extractor import DTYPES
from genctl.metrics.measure import Evidence, Measure, Settings, UndefinedError, table
from genctl.metrics.of_model import DEFAULTS, OfModel
from genctl.registry import suggest
from genctl.report import gates, pictures, places
from genctl.report.collecting import collect, name_files, sides_of
from genctl.report.gather import Gathered, Request, gather, obstacle, plan_of
from genctl.report.places import require_writable
from genctl.report.result import failure_in, prospect_of, result_of, save
from genctl.report.results_of_run import place_of
from genctl.report.sides import DEFAULT_N

BATCH_SIZE = 64


def evaluate(
    generated: str | Path,
    real: str | Path | None = None,
    measures: Sequence[str] | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    size: int | Literal["native"] = "native",
    features: str | Path | None = None,
    inception_weights: str | Path | None = None,
    is_splits: int = 10,
    kid_subsets: int = 100,
    kid_subset_size: int = 1000,
    of_model: OfModel = DEFAULTS,
    pr_k: int = 3,
    held_out: str | Path | None = None,
    copy_threshold: float | None = None,
    plot: str | Path | None = None,
    require: Sequence[str] = (),
    baseline: str | Path | None = None,
    unlike: bool = False,
    device: str = "auto",
    batch_size: int | None = None,
    precision: str | None = None,
    run_precision: str | None = None,
    raw_weights: bool = False,
    download: bool = False,
    strict: bool = False,
    out: str | Path | None = None,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure generated examples, by themselves and against real ones.

    Args:
        generated: a run (``RUN``, ``RUN@step``), which is sampled on the fly, a folder, zip or npz.
        real: a data SPEC, or an npz of features.
        measures: names of the table in ``genctl.metrics.measure``; None: everything that applies.
        n: examples drawn from ``generated`` and at most from ``real``, by seed; 10,000 or all.
        seed: decides the samples, and which rows are taken.
        size: edge of the pictures of folders and the like, which are cut and resized to it as
            ``data.size`` does for training; a run decides it by itself.
        features: ``inception`` (default), ``pixels``, a classifier run, or a file of weights.
        inception_weights: file with the weights of the standard network.
        is_splits: splits of the Inception score.
        kid_subsets: subsets of KID.
        kid_subset_size: rows of a subset of KID.
        of_model: settings of ``probe``, ``manifold`` and ``anomaly``.
        pr_k: neighbours of improved precision and recall.
        held_out: for memorization, what was not trained on; by default ``real``'s test part.
        copy_threshold: distance up to which an example is a copy; by default half the median
            distance of held-out examples to the training set.
        plot: where the pictures of prd and memorization go; by default into a run's reports.
        require: gates, such as ``fid<40``.
        baseline: an earlier result, for gates such as ``fid<=baseline+2``.
        unlike: judge such gates even if the earlier result has another protocol.
        device: auto, cpu, cuda or mps.
        batch_size: examples at a time; changes no result.
        precision: number format of the feature network, on both sides: ``fp32`` or ``bf16``, which
            is faster and moves the numbers a little. ``auto`` is fp32: a number should not depend
            on the machine. Stored features must have been made in it.
        run_precision: number format of a run's own network, for its samples and likelihoods;
            ``fp32`` unless asked otherwise, whatever ``precision`` is.
        raw_weights: sample a run with its last weights instead of their average.
        download: let torchvision download a named data set.
        strict: refuse data with any broken file.
        out: also write the result here.
        report: told what is being done.

    Returns:
        The object that ``genctl evaluate --json`` prints. Unmet gates, the case that nothing could
        be taken, and that a file could not be written at the end, are in it as ``error``, with the
        exit code of the command.

    Raises:
        UsageError: unknown measure or precision, gate on a measure that is not taken, nothing to
            compare with.
        DataError: bad data, or features that are not finite.
        CapabilityError: the run cannot do what was asked, or there are no Inception weights.
    """
    request = Request(
        str(generated),
        None if real is None else str(real),
        _checked_names(measures),
        _at_least_one(DEFAULT_N if n is None else n, "-n"),
        seed,
        None if features is None else str(features),
        inception_weights,
        Settings(
            _at_least_one(is_splits, "--is-splits"),
            _at_least_one(kid_subsets, "--kid-subsets"),
            _at_least_one(kid_subset_size, "--kid-subset-size"),
            of_model,
            _at_least_one(pr_k, "--pr-k"),
            copy_threshold,
            seed=seed,
        ),
        [gates.parse(text) for text in require],
        device,
        _at_least_one(BATCH_SIZE if batch_size is None else batch_size, "--batch-size"),
        feature_precision(precision),
        run_precision,
        raw_weights,
        download,
        strict,
        held_out=None if held_out is None else str(held_out),
        plot=None if plot is None else Path(plot),
        size=size,
        unlike=unlike,
    )
    _refuse_idle(request)
    earlier = None if baseline is None else gates.read_baseline(Path(baseline))
    with distributed.processes(device):
        return answer(request, earlier, out, report or (lambda text: None))


def answer(
    request: Request,
    earlier: dict[str, Any] | None,
    out: str | Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The result of a checked request, equal on every process; the first one writes it."""
    for option, path in (("--out", out), ("--plot", request.plot)):
        if path is not None:
            place = Path(path)
            distributed.on_main(partial(require_writable, place, option))
    gathered = distributed.together(lambda: gather(request))
    plan = plan_of(request, gathered)
    standard = gathered.extractor is not None and gathered.extractor.standard
    gates.check_names(
        request.gates,
        {m.key(standard): m.numbers for m in plan},
        {m.key(standard): m.words for m in plan},
    )
    gates.check_baseline(request.gates, earlier)
    pictures.check(request.plot, plan)
    seen = sides_of(plan, gathered)
    if earlier is not None and not request.unlike:
        gates.refuse_unlike(request.gates, prospect_of(request, gathered, seen, earlier), earlier)
    unwritable = distributed.from_main(lambda: _unwritable(gathered))
    if unwritable is not None:
        gathered.warnings.append(unwritable)
    evidence = collect(request, gathered, plan, seen, say)
    entries = {m.key(standard): _take(m, evidence, request, gathered) for m in plan}
    name_files(entries, gathered)
    result = result_of(request, gathered, evidence, entries, seen)
    run = gathered.run if unwritable is None else None
    where = distributed.from_main(lambda: None if run is None else str(place_of(result, run)))
    drawn = pictures.plan(entries, gathered, request.plot, evidence, where)
    _judge(request, result, earlier)
    unsaved = distributed.from_main(lambda: save(result, run, where, out))
    lost = distributed.from_main(lambda: pictures.draw(drawn, gathered, request.batch_size))
    if lost:
        for name, warning in lost.items():
            del entries[name]["picture"]
            evidence.warn(warning)
        unsaved = distributed.from_main(lambda: save(result, run, where, out))
    if unsaved is not None:
        result["error"] = unsaved
    return result


def _unwritable(found: Gathered) -> str | None:
    """Why no result can be kept among a run's reports; a run that is only read is measured."""
    if found.run is None:
        return None
    reports = RunDirectory(found.run.path).reports
    error = places.obstacle(reports / "evaluate.json")
    if error is None:
        return None
    reason = error.strerror or error
    return f"{reports} cannot be written: {reason}; --out FILE keeps the result"


def _judge(request: Request, result: dict[str, Any], earlier: dict[str, Any] | None) -> None:
    """Put gates, and what they and the baseline say, into the result."""
    pointless = {}
    if earlier is not None:
        differences = gates.protocol_differences(result, earlier)
        if differences:
            result["warnings"].append(
                f"the baseline has another protocol: {'; '.join(differences)}"
            )
        if not request.unlike:
            pointless = gates.unlike(request.gates, result, earlier)
    result["gates"] = gates.judge(request.gates, result["metrics"], earlier, pointless)
    error = failure_in(result)
    if error is not None:
        result["error"] = error.as_dict()


def _refuse_idle(request: Request) -> None:
    """Refuse what no measure would look at.

    Raises:
        UsageError: held-out data, and no measure that compares with it.
    """
    if request.held_out is not None and "training" not in request.needs:
        reason = "no measure here looks at it"
        raise UsageError(f"--held-out {request.held_out}", reason, "add --memorization")


def _checked_names(measures: Sequence[str] | None) -> list[str] | None:
    """Names of the table; ``fd`` asks for ``fid``, ``pr`` for ``dc``, too."""
    if measures is None or not list(measures):
        return None
    known = table()
    other = {m.other_name: m.name for m in known.values() if m.other_name}
    names = [other.get(name, name) for name in measures]
    for name in names:
        if name not in known:
            raise UsageError(f"measure {name!r}", f"unknown{suggest(name, list(known))}", "")
    more = [m.name for name in names for m in known.values() if m.asked_by == name]
    return list(dict.fromkeys([*names, *more]))


def _at_least_one(value: int, option: str) -> int:
    if value < 1:
        raise UsageError(f"{option} {value}", "must be at least 1")
    return value


def feature_precision(wanted: str | None) -> str | None:
    """The number format of a feature network that was asked for; None: nothing was.

    Raises:
        UsageError: features are not computed in it.
    """
    if wanted in (None, "auto", *DTYPES):
        return None if wanted == "auto" else wanted
    names = " or ".join(DTYPES)
    raise UsageError(
        f"--precision {wanted}", f"features are computed in {names}", "--run-precision"
    )


# --- the numbers ---------------------------------------------------------------------------------
def _take(
    measure: Measure, evidence: Evidence, request: Request, found: Gathered
) -> dict[str, Any]:
    reason = obstacle(measure, found)
    if reason is not None:
        remedy = f"; {reason.remedy}" if isinstance(reason, DataError) and reason.remedy else ""
        return measure.undefined(f"{reason.thing}: {reason.reason}{remedy}")
    try:
        entry = measure.take(evidence, request.settings)
    except UndefinedError as error:
        return measure.undefined(str(error))
    if any(isinstance(value, float) and not math.isfinite(value) for value in entry.values()):
        return measure.undefined("the numbers overflow: the features are too large")
    return entry
