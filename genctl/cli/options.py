"""Options that several commands share, with one meaning and one help text each."""

from __future__ import annotations

from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.", metavar="DEVICE")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="auto, fp32, tf32 or bf16; fp32 outside training."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Examples at a time: memory and speed."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")]
Download = Annotated[
    bool, typer.Option("--download", help="Allow torchvision to download a named data set.")
]
StrictData = Annotated[
    bool, typer.Option("--strict-data", help="Refuse a data set with any broken file.")
]
Size = Annotated[
    str, typer.Option("--size", metavar="N", help="Edge in pixels, or native: the data's own.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change any key: --set train.batch_size=32. Repeatable."),
]
RawWeights = Annotated[
    bool, typer.Option("--raw-weights", help="The last weights instead of their average.")
]
