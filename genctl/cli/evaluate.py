"""``genctl evaluate``: numbers for a run or a folder, with the protocol they were made by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.cli import options
from genctl.cli.entry_text import edge_of, own_words, whole_numbers
from genctl.cli.human import alone, judge_answers, one_or_none, write_page
from genctl.cli.output import conclude, emit, note


def evaluate(
    generated: Annotated[
        str,
        typer.Argument(metavar="GENERATED", help="A run (sampled on the fly), folder, zip, npz."),
    ],
    others: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REAL]", help="A data SPEC, or an npz of features."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Results side by side: --compare A.json B.json.")
    ] = False,
    unlike_protocols: Annotated[
        bool,
        typer.Option(
            "--unlike-protocols",
            help="With --compare or --baseline: compare even numbers of other meaning.",
        ),
    ] = False,
    fid: Annotated[
        bool, typer.Option("--fid", help="Fréchet distance (`fd` in other features).")
    ] = (False),
    inception_score: Annotated[bool, typer.Option("--is", help="Inception score.")] = False,
    kid: Annotated[bool, typer.Option("--kid", help="Kernel distance, unbiased.")] = False,
    prd: Annotated[
        bool, typer.Option("--prd", help="Precision and recall of clusters: F8, F1/8, F1.")
    ] = False,
    pr: Annotated[
        bool, typer.Option("--pr", help="Improved precision, recall; density, coverage.")
    ] = False,
    modes: Annotated[
        bool, typer.Option("--modes", help="Modes of a toy, or of stacked digits.")
    ] = False,
    nll: Annotated[bool, typer.Option("--nll", help="Likelihood of held-out data.")] = False,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="A classifier run's accuracy on held-out data.")
    ] = False,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="A conditional run's samples show their labels.")
    ] = False,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="Agreement of a run's own clusters with labels.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Few labels on the run's features (if asked for).")
    ] = False,
    manifold: Annotated[
        bool, typer.Option("--manifold", help="Precision, recall on toy:triangles (if asked for).")
    ] = False,
    anomaly: Annotated[
        bool, typer.Option("--anomaly", help="AUROC of strange examples (if asked for).")
    ] = False,
    probe_labels: Annotated[
        str, typer.Option(metavar="N,…", help="How many labels a probe learns from.")
    ] = "100,1000",
    probe_draws: Annotated[int, typer.Option(min=1, help="Draws of a probe's labels.")] = 5,
    manifold_delta: Annotated[
        float, typer.Option(help="Distance within which a picture is on the manifold.")
    ] = 0.75,
    anomaly_by: Annotated[
        str | None,
        typer.Option(
            metavar="likelihood|reconstruction|discriminator",
            help="What is strange; default: the first that the model can.",
        ),
    ] = None,
    anomaly_class: Annotated[
        list[int] | None,
        typer.Option(help="A label of REAL that is strange; default: those of data.without."),
    ] = None,
    anomaly_data: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Strange examples; REAL is then normal.")
    ] = None,
    memorization: Annotated[
        bool, typer.Option("--memorization", help="Copies of training examples, and near them.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="inception|RUN|FILE|pixels",
            help="Whose features: the standard network (default), a classifier run, pixels.",
        ),
    ] = None,
    inception_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights of the standard network, if not downloaded."),
    ] = None,
    is_splits: Annotated[int, typer.Option(min=1, help="Splits of the Inception score.")] = 10,
    kid_subsets: Annotated[int, typer.Option(min=1, help="Subsets of KID.")] = 100,
    kid_subset_size: Annotated[int, typer.Option(min=2, help="Rows of a KID subset.")] = 1000,
    human: Annotated[
        bool, typer.Option("--human", help="Write a page that asks people: real or generated?")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="T", help="With --human: show each picture only that long."),
    ] = None,
    human_results: Annotated[
        bool,
        typer.Option("--human-results", help="The arguments are files of answers to such pages."),
    ] = False,
    pr_k: Annotated[int, typer.Option(min=1, help="Neighbours of improved precision, recall.")] = 3,
    held_out: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Memorization: unseen data; default: REAL's test part."),
    ] = None,
    copy_threshold: Annotated[
        float | None,
        typer.Option(min=0, help="Memorization: distance up to which an example is a copy."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PNG of --prd's curve or --memorization's neighbours."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", min=1, help="Examples a side; default: 10,000 or all.")
    ] = None,
    seed: options.Seed = 0,
    size: options.Size = "native",
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="GATE", help="Exit 3 unless met: 'fid<40', 'is.mean>=2'. Repeatable."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An earlier result, for --require 'fid<=baseline+2'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the JSON here.")
    ] = None,
    raw_weights: options.RawWeights = False,
    device: options.Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|bf16",
            help="Of the feature network, both sides alike. bf16: faster, another protocol.",
        ),
    ] = None,
    run_precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|tf32|bf16", help="Of a run's own network, to sample it; default: fp32."
        ),
    ] = None,
    batch_size: options.BatchSize = None,
    download: options.Download = False,
    strict_data: options.StrictData = False,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Measure samples, by themselves and against real data. No flag: all quick ones that apply."""
    if compare:
        return _compare([generated, *(others or [])], unlike_protocols, out, json_output)
    flags = {
        "fid": fid,
        "is": inception_score,
        "kid": kid,
        "prd": prd,
        "pr": pr,
        "modes": modes,
        "nll": nll,
        "accuracy": accuracy,
        "agreement": agreement,
        "clusters": clusters,
        "probe": probe,
        "manifold": manifold,
        "anomaly": anomaly,
        "memorization": memorization,
    }

    if human or human_results or seconds is not None:
        alone([name for name, asked in flags.items() if asked], human, human_results, seconds)
    if human_results:
        return judge_answers([generated, *(others or [])], require or [], out, json_output)
    real = one_or_none(others)
    if human:
        return write_page(
            generated,
            real,
            out,
            n=n,
            seconds=seconds,
            seed=seed,
            size=edge_of(size),
            device=device,
            precision=run_precision,
            batch_size=batch_size,
            raw_weights=raw_weights,
            download=download,
            strict=strict_data,
            quiet=quiet,
            json_output=json_output,
        )

    from genctl.metrics.of_model import OfModel
    from genctl.report.evaluate import evaluate as measure

    of_model = OfModel(
        whole_numbers(probe_labels, "--probe-labels"),
        probe_draws,
        manifold_delta,
        anomaly_by,
        anomaly_class or [],
        anomaly_data,
    )

    result = measure(
        generated,
        real,
        [name for name, asked in flags.items() if asked],
        n=n,
        seed=seed,
        size=edge_of(size),
        features=features,
        inception_weights=inception_weights,
        is_splits=is_splits,
        kid_subsets=kid_subsets,
        kid_subset_size=kid_subset_size,
        of_model=of_model,
        pr_k=pr_k,
        held_out=held_out,
        copy_threshold=copy_threshold,
        plot=plot,
        require=require or [],
        baseline=baseline,
        unlike=unlike_protocols,
        device=device,
        batch_size=batch_size,
        precision=precision,
        run_precision=run_precision,
        raw_weights=raw_weights,
        download=download,
        strict=strict_data,
        out=out,
        report=None if quiet else note,
    )
    for warning in result["warnings"]:
        note(f"warning: {warning}")
    return conclude(result, json_output, as_text(result))


def _compare(files: list[str], unlike: bool, out: Path | None, json_output: bool) -> int:
    """Results side by side; nothing is measured."""
    from genctl.report.compare import as_text, compare

    result = compare(files, unlike=unlike, out=out)
    emit(result, json_output, as_text(result))
    return 0


def as_text(result: dict[str, Any]) -> str:
    """The numbers, one measure a line, under a line that says of what."""
    sizes = [
        f"{result[key]} {name}"
        for key, name in (("n_generated", "generated"), ("n_real", "real"))
        if result[key] is not None
    ]
    head = [result["generated"], *(["against " + result["real"]] if result["real"] else [])]
    seen = f"{result['features']} features of {' and '.join(sizes)}" if result["features"] else ""
    lines = [" ".join(head) + (f": {seen}" if seen else "")]
    for key, entry in result["metrics"].items():
        lines.append(f"  {key:<9} {_entry(entry)}")
    for gate in result["gates"]:
        lines.append(f"  {'met' if gate['met'] else 'NOT MET':<9} {gate['require']}")
    return "\n".join(lines)


def _entry(entry: dict[str, Any]) -> str:
    if "reason" in entry:
        return f"none: {entry['reason']}"
    if (text := own_words(entry)) is not None:
        return text
    if "copies" in entry:
        return _memorization(entry)
    if "precision" in entry:
        return (
            f"precision {entry['precision']:.4f}, recall {entry['recall']:.4f} (k = {entry['k']})"
        )
    if "density" in entry:
        return (
            f"density {entry['density']:.4f}, coverage {entry['coverage']:.4f} (k = {entry['k']})"
        )
    if "f1_8" in entry:
        f8, f1_8 = f"F8 {entry['f8']:.4f} (recall)", f"F1/8 {entry['f1_8']:.4f} (precision)"
        return f"{f8}, {f1_8}, F1 {entry['f1']:.4f}"
    if "covered" in entry:
        kl = "none" if entry["kl"] is None else f"{entry['kl']:.3g} nats"
        if "accuracy" in entry:
            return f"{entry['covered']} of {entry['total']} covered, KL {kl}{_real_triples(entry)}"
        return (
            f"{entry['covered']} of {entry['total']} covered, "
            f"{entry['high_quality']:.1%} of high quality, "
            f"{entry['least_share']:.1%} in the poorest mode, KL {kl}"
        )
    if "mean" in entry:
        return f"{entry['mean']:.6g} ± {entry['std']:.3g}"
    if "nats" in entry:
        sign = {"lower_bound": "≤ ", "estimate": "≈ "}.get(entry["kind"], "")
        error = "" if entry["standard_error"] is None else f" ± {entry['standard_error']:.2g}"
        bits = f"{sign}{entry['bits_per_dim']:.4g} bits/dim"
        return f"{sign}{entry['nats']:.6g}{error} nats, {bits} ({entry['kind']}, n = {entry['n']})"
    return f"{entry['value']:.6g}"


def _real_triples(entry: dict[str, Any]) -> str:
    if entry["accuracy"] is None:
        return ""
    seen = f"{entry['real_covered']} covered, KL {entry['real_kl']:.3g}"
    return f" ({entry['real_n']} real triples: {seen}, {entry['accuracy']:.1%} named rightly)"


def _memorization(entry: dict[str, Any]) -> str:
    copies = f"{entry['copies']:.2%} within {entry['threshold']:.4g} of a training example"
    if entry["z_u"] is None:
        return f"{copies}; nothing held out to compare with"
    beside = f"{copies} (held-out: {entry['copies_held_out']:.2%})"
    nearer = f"{entry['balance']:.1%} ± {entry['balance_error']:.1%} nearer to training"
    return f"{beside}, {nearer} than to held-out, Z_U {entry['z_u']:.2f}"
