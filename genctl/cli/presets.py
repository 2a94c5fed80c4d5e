"""``genctl presets``: find, read, copy and check presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genctl.cli import options
from genctl.cli.output import emit
from genctl.errors import ConfigError, UsageError

app = typer.Typer(help="List, show, copy and check presets.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A preset, or a YAML file.")]


@app.command("list")
def list_presets(
    can: Annotated[
        str | None,
        typer.Option("--can", metavar="CAPABILITY", help="Only presets that can do this."),
    ] = None,
    json_output: options.Json = False,
) -> int:
    """Every preset: name, what it is, what it can do."""
    from genctl.config.catalogue import catalogue

    infos = list(catalogue().values())
    if can is not None:
        wanted = _capability(can)
        infos = [info for info in infos if wanted in info.capabilities]
    rows = [
        {
            "name": info.name,
            "family": info.family,
            "about": info.about,
            "capabilities": info.capabilities,
            "data": info.data,
        }
        for info in infos
    ]
    emit({"presets": rows}, json_output, _table(rows))
    return 0


@app.command("show")
def show(
    name: Name,
    overrides: options.Set = None,
    json_output: options.Json = False,
) -> int:
    """The resolved configuration, the paper, the sizes, and where each part is defined."""
    from genctl.config import presets
    from genctl.config.catalogue import model_capabilities
    from genctl.config.load import load_config, to_yaml
    from genctl.report.anatomy import build_example, example_spec, parameter_counts, places

    config = load_config(name, overrides or ())
    spec = example_spec(config)
    counts = parameter_counts(build_example(config, spec))
    parts = places(config)
    able = model_capabilities(config.model["kind"])
    payload: dict[str, Any] = {
        "name": config.preset,
        "file": str(presets.find(name)),
        "about": config.about,
        "capabilities": able,
        "config": config.model_dump(mode="json"),
        "shape": list(spec.shape),
        "parameters": counts,
        "parts": [{"path": p.path, "kind": p.kind, "where": p.where} for p in parts],
    }
    size = " × ".join(map(str, spec.shape))
    width = max(len(part.path) for part in parts)
    lines = [
        f"# {payload['file']}",
        to_yaml(config).rstrip(),
        "",
        f"paper       {config.about.get('paper', 'none')}",
        f"can         {', '.join(able) or 'only be trained'}",
        f"parameters  {', '.join(f'{p} {c:,}' for p, c in counts.items())} (for data of {size})",
        "parts",
        *(f"  {p.path:<{width}}  {p.kind}  {p.where}" for p in parts),
    ]
    emit(payload, json_output, "\n".join(lines))
    return 0


@app.command("copy")
def copy(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; ends in .yaml.")],
    json_output: options.Json = False,
) -> int:
    """Copy a preset to edit it; an existing file is never overwritten."""
    from genctl.report.anatomy import copy_preset

    if not file.is_dir() and file.suffix not in (".yaml", ".yml"):
        raise UsageError(str(file), "a preset's file ends in .yaml", f"{file}.yaml")
    try:
        written = copy_preset(name, file)
    except FileExistsError:
        raise UsageError(str(file), "exists already, and is kept", "choose another FILE") from None
    text = f"{written}: now `genctl train --preset {written}`"
    emit({"preset": name, "out": str(written)}, json_output, text)
    return 0


@app.command("check")
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|FILE]…", help="Default: all presets.")
    ] = None,
    overrides: options.Set = None,
    json_output: options.Json = False,
) -> int:
    """Validate presets and files, and report every problem of every one."""
    from genctl.config import presets
    from genctl.report.anatomy import problems_of

    wanted = names or list(presets.paths())
    problems = [
        f"{name}: {problem}" for name in wanted for problem in problems_of(name, overrides or ())
    ]
    if problems:
        raise ConfigError(
            "presets check", problems, "`genctl presets show NAME` prints every key with its value"
        )
    emit({"checked": wanted, "problems": []}, json_output, f"{len(wanted)} presets are valid")
    return 0


@app.command("table")
def table(json_output: options.Json = False) -> int:
    """Write presets/README.md from the presets and the recorded results."""
    from genctl.report.presets_table import write_table

    path = write_table()
    emit({"out": str(path)}, json_output, f"{path}: written")
    return 0


def _capability(word: str) -> str:
    from genctl.contracts import CAPABILITIES
    from genctl.registry import suggest

    name = word.replace("-", "_")
    if name not in CAPABILITIES:
        known = list(CAPABILITIES)
        raise UsageError(f"--can {word}", f"no such capability{suggest(name, known)}")
    return name


def _table(rows: list[dict[str, Any]]) -> str:
    """A line for each preset under its family; the summary is cut to the terminal."""
    import shutil

    width = shutil.get_terminal_size((120, 24)).columns
    longest = max((len(row["name"]) for row in rows), default=0)
    lines: list[str] = []
    family = None
    for row in sorted(rows, key=lambda row: (row["family"], row["name"])):
        if row["family"] != family:
            family = row["family"]
            lines.append(f"{family}")
        line = f"  {row['name']:<{longest}}  {row['about'].get('summary', '')}"
        lines.append(line if len(line) <= width else line[: width - 1] + "…")
    lines.append(f"{len(rows)} presets; `genctl presets show NAME` says more")
    return "\n".join(lines)
