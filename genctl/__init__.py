"""genctl: train, sample, interpolate and evaluate generative models on your own images.

The names below are everything a script needs; each is imported when first used, so that
``import genctl`` and the command line's ``--help`` stay fast.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genctl.config.load import load_config as load_config
    from genctl.engine.run import Run as Run
    from genctl.engine.run import open_run as open_run
    from genctl.report.evaluate import evaluate as evaluate
    from genctl.report.scores import fit as fit

__version__ = "0.1.0"

started = time.monotonic()
"""When this process imported genctl, from which ``--max-time`` counts."""

_LAZY = {
    "load_config": "genctl.config.load",
    "fit": "genctl.report.scores",
    "open_run": "genctl.engine.run",
    "Run": "genctl.engine.run",
    "evaluate": "genctl.report.evaluate",
}
__all__ = ["Run", "__version__", "evaluate", "fit", "load_config", "open_run"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'genctl' has no attribute {name!r}")
