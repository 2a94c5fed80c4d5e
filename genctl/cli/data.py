"""``genctl data``: look at data before training on it, and keep its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.cli import options
from genctl.cli.entry_text import edge_of
from genctl.cli.output import emit, note
from genctl.errors import UsageError
from genctl.printable import size_in_words

app = typer.Typer(help="Inspect data; prepare and clear the cache.", no_args_is_help=True)

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A folder, archive, npz, digits, …")]


@app.command("inspect")
def inspect(
    spec: Spec,
    size: options.Size = "native",
    download: options.Download = False,
    strict_data: options.StrictData = False,
    json_output: options.Json = False,
) -> int:
    """What is there: examples, shape, labels, broken files, cache."""
    facts = _facts(spec, size, download, strict_data)
    emit({"data": spec, **facts}, json_output, _table(spec, facts))
    return 0


@app.command("cache")
def cache(
    spec: Annotated[str | None, typer.Argument(metavar="SPEC")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything cached.")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Keep its features, for evaluate to reuse.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(metavar="inception|RUN|FILE|pixels", help="With --statistics: whose."),
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of the standard network.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="With --statistics: prepare the data as this run did."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", min=1, help="At most so many; default: 10,000 or all.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|bf16", help="Of the feature network.")
    ] = None,
    batch_size: options.BatchSize = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="With --statistics: into a file for evaluate."),
    ] = None,
    size: options.Size = "native",
    download: options.Download = False,
    strict_data: options.StrictData = False,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Decode a data set into the cache now, or say what the cache holds, or clear it."""
    if spec is not None and clear:
        raise UsageError("data cache", "both a SPEC and --clear", "give one of them")
    if statistics:
        if spec is None:
            raise UsageError("--statistics", "of no data set", "data cache SPEC --statistics")
        from genctl.report.statistics import keep_statistics

        kept = keep_statistics(
            spec,
            run=run,
            size=edge_of(size),
            features=features,
            inception_weights=inception_weights,
            n=n,
            seed=seed,
            device=device,
            batch_size=batch_size,
            precision=precision,
            download=download,
            strict=strict_data,
            out=out,
            report=None if quiet else note,
        )
        done = "were there already" if kept["reused"] else "kept"
        size = size_in_words(kept["bytes"])
        text = f"{spec}: {kept['features']} features of {kept['n']} examples {done} ({size})"
        emit({"data": spec, **kept}, json_output, text)
        return 0
    if any(option is not None for option in (features, inception_weights, run, n, out)):
        raise UsageError("data cache", "features without --statistics", "add --statistics")
    from genctl.data.cache import cache_info, clear_cache

    if clear:
        freed = clear_cache()
        folder = cache_info()["folder"]
        payload: dict[str, Any] = {"folder": folder, "freed_bytes": freed}
        emit(payload, json_output, f"{folder}: {size_in_words(freed)} freed")
        return 0
    facts = {} if spec is None else _facts(spec, size, download, strict_data)
    info = cache_info()
    text = (
        f"{info['folder']}: {len(info['entries'])} entries, {size_in_words(info['bytes'])} "
        f"of at most {size_in_words(info['limit_bytes'])}; small sets are decoded anew each time"
    )
    if spec is None:
        emit(info, json_output, text)
    else:
        emit({"data": spec, **facts}, json_output, f"{_table(spec, facts)}\n{text}")
    return 0


def _facts(spec: str, size: str, download: bool, strict: bool) -> dict[str, Any]:
    edge = edge_of(size)
    from genctl.data.dataset import open_dataset
    from genctl.data.describe import describe

    facts = describe(open_dataset(spec, size=edge, download=download, strict=strict))
    for warning in facts.get("warnings", ()):
        note(f"warning: {warning}")
    return facts


def _table(spec: str, facts: dict[str, Any]) -> str:
    """One fact a line; long lists are cut, and say so."""
    lines = [f"{spec}: {facts['source']}"]
    for key, value in facts.items():
        if key in ("source", "warnings") or value in (None, [], {}):
            continue
        if key == "broken":
            shown = [f"{item['name']} ({item['reason']})" for item in value[:10]]
            more = f", and {len(value) - 10} more" if len(value) > 10 else ""
            value = f"{len(value)}: {', '.join(shown)}{more}"
        elif key == "bytes":
            value = size_in_words(value)
        elif isinstance(value, dict):
            items = [f"{name} {count}" for name, count in value.items()]
            value = ", ".join(items[:20]) + (f", … ({len(items)})" if len(items) > 20 else "")
        elif isinstance(value, list):
            value = " × ".join(map(str, value))
        lines.append(f"  {key + ':':<15} {value}")
    return "\n".join(lines)
