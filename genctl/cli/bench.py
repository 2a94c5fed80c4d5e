"""``genctl bench``: how fast a preset trains here, against the loop that a script would run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from genctl.cli import options
from genctl.cli.output import conclude, note


def bench(
    preset: Annotated[
        str,
        typer.Option("--preset", metavar="NAME|FILE", help="What to train.", show_default=False),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="SPEC",
            help="Default: the preset's own, or random pictures where that is not there.",
        ),
    ] = None,
    overrides: options.Set = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="About how long to measure.")
    ] = 20.0,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", help="Exit 3 unless so: 'ratio_to_plain>=2.5'. Repeatable."),
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    download: options.Download = False,
    strict_data: options.StrictData = False,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Measure warm training speed, memory, the share of the machine's peak, and a plain loop.

    The plain loop trains the same networks as a script does: float32, contiguous tensors, torch's
    default optimisers, no player frozen, the value of every loss read, no average of the weights,
    pictures prepared one by one by a DataLoader. The two take turns; numbers are medians over the
    turns. Peak memory is that of the tensors on a GPU, and on a CPU the most that the whole process
    held (Python and torch included) until genctl's own loop was warm.
    """
    from genctl.config.load import load_config
    from genctl.report.bench import bench as measure

    dedicated = {"train.batch_size": batch_size, "train.precision": precision}
    changes = [f"{path}={value}" for path, value in dedicated.items() if value is not None]
    result = measure(
        load_config(preset, [*(overrides or []), *changes]),
        data,
        device=device,
        seconds=seconds,
        require=require or [],
        download=download,
        strict=strict_data,
        report=None if quiet else note,
    )
    return conclude(result, json_output, as_text(result))


def as_text(result: dict[str, Any]) -> str:
    """Both loops in a table, then memory, arithmetic, and where the time goes."""
    size = "×".join(map(str, result["shape"]))
    threads = f", {result['threads']} threads" if result["device"] == "cpu" else ""
    low, high = result["ratio_range"]
    reached, peak = (result[f"{key}_per_second"] / 1e9 for key in ("flops", "peak_flops"))
    share = ", ".join(f"{name} {part:.0%}" for name, part in result["time_share"].items())
    lines = [
        f"{result['preset']} on {result['device']} in {result['precision']}: "
        f"batch {result['batch_size']} of {size}, data {result['data']}",
        f"{result['machine']}{threads}, torch {result['torch']}",
        "",
        f"{'':<12}{'images/s':>10}{'steps/s':>10}{'ms a step':>11}",
        _row("genctl", result["images_per_second"], result["steps_per_second"]),
        _row("plain loop", result["plain_images_per_second"], result["plain_steps_per_second"]),
        f"{'ratio':<12}{result['ratio_to_plain']:>10.2f}  "
        f"median of {result['rounds']} turns each, {low:.2f} to {high:.2f}",
        "",
        f"memory      {result['peak_memory_bytes'] / 2**20:,.0f} MiB, {result['peak_memory_is']}",
        f"arithmetic  {reached:,.1f} GFLOP/s, {result['flops_utilisation']:.1%} of the {peak:,.0f} "
        f"that a {result['precision']} matrix product reaches here",
        f"time        {share}",
        f"plain loop  {result['plain_loop']}",
    ]
    lines += [
        f"{'met' if gate['met'] else 'NOT MET':<12}{gate['require']}" for gate in result["gates"]
    ]
    return "\n".join(lines)


def _row(name: str, images: float, steps: float) -> str:
    return f"{name:<12}{images:>10,.1f}{steps:>10.2f}{1e3 / steps:>11.1f}"
