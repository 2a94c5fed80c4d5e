"""``genctl doctor``: what this machine and this installation have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from genctl.cli import options
from genctl.cli.output import emit


def doctor(
    probe: Annotated[
        bool, typer.Option("--probe", help="Also measure matrix products; takes some seconds.")
    ] = False,
    json_output: options.Json = False,
) -> int:
    """Versions, devices, cache, Inception weights, extras, and what is wrong with them."""
    from genctl.report.machine import machine_facts

    facts = machine_facts(probe)
    emit(facts, json_output, _text(facts))
    return 0


def _text(facts: dict[str, Any]) -> str:
    cpu, cache, inception = facts["cpu"], facts["cache"], facts["inception"]
    versions = f"torch {facts['torch']}, torchvision {facts['torchvision'] or 'unusable'}"
    lines = [
        f"genctl {facts['genctl']}, Python {facts['python']}, {versions}",
        f"platform    {facts['platform']}",
    ]
    for device in facts["devices"]:
        memory = device.get("memory_bytes")
        size = f", {memory / 2**30:.0f} GiB" if memory else ""
        fast = "bf16 in hardware" if device["bf16"] else "no bf16 in hardware"
        lines.append(f"device      {device['device']}: {device['name']}{size}, {fast}")
    flags = ", ".join(cpu["flags"]) or "unknown"
    lines.append(
        f"cpu         {cpu['usable']} of {cpu['count']} cores usable, {cpu['threads']} threads; "
        f"{flags}"
    )
    if facts["speed"]:
        speed = facts["speed"]
        lines.append(
            f"speed       {speed['fp32']:.0f} GFLOP/s in fp32, {speed['bf16']:.0f} in bf16 "
            f"({speed['bf16_over_fp32']:.2f} times)"
        )
    lines.append(
        f"cache       {cache['folder']}: {cache['data_sets']} data sets, "
        f"{cache['bytes'] / 2**20:.0f} MiB of at most {cache['limit_bytes'] / 2**30:.0f} GiB"
    )
    found = "found" if inception["found"] else "not found; `evaluate --fid` downloads them, or give"
    tail = "" if inception["found"] else " --inception-weights FILE"
    lines.append(f"inception   {inception['path']}: {found}{tail}")
    have = [name for name, there in facts["extras"].items() if there]
    lack = [name for name, there in facts["extras"].items() if not there]
    lines.append(f"extras      installed: {', '.join(have) or 'none'}")
    if lack:
        lines.append(f"            missing: {', '.join(lack)} (pip install 'genctl[NAME]')")
    lines += [f"problem     {problem}" for problem in facts["problems"]]
    return "\n".join(lines)
