"""``genctl sample``: draw from a run into a grid, a folder or an npz."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genctl.cli import options
from genctl.cli.output import emit, note
from genctl.errors import UsageError
from genctl.writing import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from genctl.engine.run import Run


def sample(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, RUN@step or RUN@best.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 64,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="x.png: one grid; x.npz: arrays; a folder: one PNG each."),
    ] = None,
    seed: options.Seed = 0,
    class_: Annotated[
        str | None, typer.Option("--class", metavar="C", help="A label, for conditional models.")
    ] = None,
    raw_weights: options.RawWeights = False,
    device: options.Device = "auto",
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    quiet: options.Quiet = False,
    json_output: options.Json = False,
) -> int:
    """Draw samples: same seed, same samples, whatever the batch size."""
    from genctl.engine import distributed
    from genctl.engine.run import open_run

    with distributed.processes(device):
        opened = distributed.together(
            lambda: open_run(run, device, raw_weights=raw_weights, precision_name=precision)
        )
        opened.require("sample")
        condition = None if class_ is None else _labels(opened, class_, n)
        place = out or opened.path / "samples" / f"seed-{seed}-step-{opened.step:08d}.png"
        distributed.on_main(lambda: _check_out(place, opened.spec.kind == "image", quiet))
        drawn = opened.sample(n, seed=seed, condition=condition, batch_size=batch_size)
        distributed.on_main(lambda: _write(opened, drawn, place))
    payload = {
        "run": str(opened.path),
        "step": opened.step,
        "out": str(place),
        "n": n,
        "seed": seed,
        "weights": opened.weights,
        **({} if class_ is None else {"class": class_}),
    }
    emit(
        payload,
        json_output,
        f"{place}: {n} samples of step {opened.step}, {opened.weights} weights",
    )
    return 0


def _labels(opened: Run, name: str, n: int) -> Tensor:
    """The class asked for, ``n`` times."""
    import torch

    if not opened.model.conditional:
        reason = f"{opened.path} is not conditional"
        raise UsageError("--class", reason, "leave it out, or train a cgan preset")
    names = opened.spec.class_names or tuple(str(i) for i in range(opened.spec.classes))
    if name not in names:
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        raise UsageError(f"--class {name}", "the run knows no such class", f"one of {shown}")
    return torch.full((n,), names.index(name))


def _check_out(out: Path, images: bool, quiet: bool) -> None:
    """Refuse, before any work, what could not be written."""
    if out.suffix not in ("", ".png", ".npz"):
        raise UsageError(f"--out {out}", f"cannot write {out.suffix}", "x.png, x.npz or a folder")
    if not out.suffix and not images:
        raise UsageError(f"--out {out}", "points have no pictures one by one", "x.png or x.npz")
    if not out.suffix and out.is_dir() and any(out.iterdir()) and not quiet:
        note(f"warning: {out} already holds files; those with other numbers stay beside the new")


def _write(opened: Run, drawn: Tensor, out: Path) -> None:
    """By the form of ``out``: a grid, arrays, or one PNG each."""
    from genctl.data.pictures import grid, picture, write_png
    from genctl.data.ranges import to_bytes

    images = opened.spec.kind == "image"
    if out.suffix == ".npz":
        import numpy as np

        with replacing(out) as partial:
            if images:
                np.savez_compressed(partial, images=to_bytes(drawn).permute(0, 2, 3, 1).numpy())
            else:
                np.savez_compressed(partial, points=drawn.numpy())
    elif out.suffix == ".png":
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(out, picture(drawn))
    else:
        out.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(to_bytes(drawn)):
            write_png(out / f"{i:06d}.png", grid(image[None], columns=1, padding=0))
