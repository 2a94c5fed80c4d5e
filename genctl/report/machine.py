"""What this machine and this installation have: the facts behind ``genctl doctor``."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from genctl import __version__
from genctl.data.cache import cache_info
from genctl.metrics.features.inception import ENVIRONMENT

EXTRAS = {
    "tensorboard": "tensorboard",
    "study": "optuna",
    "video": "av",
    "webdataset": "webdataset",
    "test": "pytest",
}
"""Extras of genctl by the module that each brings."""

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
"""What decides how fast a CPU multiplies matrices, and in which number formats."""


def machine_facts(probe: bool = False) -> dict[str, Any]:
    """Versions, devices, CPU, cache, Inception weights, extras, and what is wrong.

    Args:
        probe: also measure matrix products in float32 and bfloat16; takes some seconds.
    """
    problems: list[str] = []
    return {
        "genctl": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torchvision": _torchvision(problems),
        "devices": devices(),
        "cpu": {
            "count": os.cpu_count(),
            "usable": _usable_cores(),
            "threads": torch.get_num_threads(),
            "flags": cpu_flags(),
        },
        "speed": speed() if probe else None,
        "cache": _cache(problems),
        "inception": inception_weights(problems),
        "extras": {name: importlib.util.find_spec(m) is not None for name, m in EXTRAS.items()},
        "problems": problems,
    }


def devices() -> list[dict[str, Any]]:
    """The devices torch can use, the one that ``auto`` takes first."""
    found: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(i)
            found.append(
                {
                    "device": f"cuda:{i}",
                    "name": facts.name,
                    "memory_bytes": facts.total_memory,
                    "bf16": torch.cuda.is_bf16_supported(),
                }
            )
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": platform.processor(), "bf16": True})
    bf16 = bool({"amx_bf16", "avx512_bf16", "bf16"} & set(cpu_flags()))
    found.append({"device": "cpu", "name": _cpu_name(), "bf16": bf16})
    return found


def cpu_flags() -> list[str]:
    """Which of the interesting instructions the CPU has; empty where the system does not say."""
    words: set[str] = set()
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            words |= set(value.split())
            break
    return [flag for flag in FLAGS if flag in words]


def speed(size: int = 1024) -> dict[str, float]:
    """GFLOP/s of square matrix products on the CPU in each format, and their ratio."""
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.ones(size, size, dtype=dtype)
        rates[name] = round(2 * size**3 / _product_seconds(a) / 1e9, 1)
    return {**rates, "bf16_over_fp32": round(rates["bf16"] / rates["fp32"], 2)}


def inception_weights(problems: list[str]) -> dict[str, Any]:
    """Where the standard Inception network's weights would come from."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        path = Path(os.path.expanduser(chosen))
        if not path.is_file():
            problems.append(f"{ENVIRONMENT} names {path}, which is no file")
        return {"found": path.is_file(), "path": str(path), "from": ENVIRONMENT}
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except (ImportError, RuntimeError) as error:
        problems.append(f"torch-fidelity cannot be used: {_line(error)}")
        return {"found": False, "path": None, "from": "download"}
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    return {"found": path.is_file(), "path": str(path), "from": "download"}


def _torchvision(problems: list[str]) -> str | None:
    try:
        version = metadata.version("torchvision")
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # operators of another torch do not load
        problems.append(f"torchvision does not fit torch {torch.__version__}: {_line(error)}")
        return None
    return version


def _cache(problems: list[str]) -> dict[str, Any]:
    info = cache_info()
    folder = Path(info["folder"])
    place = next(p for p in (folder, *folder.parents) if p.exists())
    writable = place.is_dir() and os.access(place, os.W_OK)
    if not writable:
        problems.append(f"the cache folder {folder} cannot be written; set GENCTL_CACHE")
    return {
        "folder": info["folder"],
        "bytes": info["bytes"],
        "limit_bytes": info["limit_bytes"],
        "data_sets": len(info["entries"]),
        "writable": writable,
    }


def _usable_cores() -> int | None:
    """Cores this process may run on, which a container or scheduler can limit."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def _cpu_name() -> str:
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return []


def _product_seconds(a: torch.Tensor, times: int = 5) -> float:
    """The fastest of a few, after one to warm up."""
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
