"""``genctl interpolate``: walks through a run's latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genctl.cli import options
from genctl.cli.output import emit
from genctl.errors import UsageError

ROWS = 6


def interpolate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, RUN@step or RUN@best.")],
    slerp: Annotated[
        bool | None,
        typer.Option(
            "--slerp/--lerp", help="Great circles or straight lines; default: the prior's."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="Frames of a walk, both ends included.")
    ] = 10,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help=f"Walks; default {ROWS}.")
    ] = None,
    seed: options.Seed = 0,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="IMG", help="Walk from this picture …")
    ] = None,
    end: Annotated[Path | None, typer.Option("--to", metavar="IMG", help="… to this one.")] = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Vary each code of an InfoGAN, --rows rows for each.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="x.png: a walk in each row; x.gif, x.mp4: a frame a step."),
    ] = None,
    raw_weights: options.RawWeights = False,
    device: options.Device = "auto",
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    quiet: options.Quiet = False,  # as every command has it; this one tells its result alone
    json_output: options.Json = False,
) -> int:
    """Walk between latents, between two pictures, or along each code."""
    if (start is None) != (end is None):
        raise UsageError("--from and --to", "only one of them is given", "give both, or neither")
    if start is not None and rows not in (None, 1):
        raise UsageError(f"--rows {rows}", "--from and --to make one walk", "leave --rows out")
    if codes and (start is not None or slerp is not None):
        option = "--slerp/--lerp" if start is None else "--from and --to"
        raise UsageError(option, "--codes moves one code and nothing else", "leave one of them out")

    from genctl.engine.run import open_run
    from genctl.report.places import require_writable
    from genctl.report.walks import check_out, read_ends, sweep_codes, write_walk

    if out is not None:
        check_out(out)
    opened = open_run(run, device, raw_weights=raw_weights, precision_name=precision)
    name = "codes" if codes else "walk"
    out = out or opened.path / "samples" / f"{name}-{seed}-step-{opened.step:08d}.png"
    require_writable(out, "--out")
    if codes:
        frames = sweep_codes(opened, rows or ROWS, steps, seed, batch_size)
    else:
        opened.require("interpolate")
        ends = None if start is None or end is None else read_ends(opened, (start, end))
        frames = opened.interpolate(
            steps=steps,
            rows=rows or ROWS,
            seed=seed,
            kind=None if slerp is None else ("slerp" if slerp else "lerp"),
            ends=ends,
            batch_size=batch_size,
        )
    write_walk(out, frames)
    payload = {
        "run": str(opened.path),
        "step": opened.step,
        "out": str(out),
        "n": frames.shape[0] * frames.shape[1],
        "seed": seed,
        "weights": opened.weights,
    }
    made = f"{frames.shape[0]} walks of {steps} frames"
    emit(payload, json_output, f"{out}: {made}, step {opened.step}, {opened.weights} weights")
    return 0
