"""What may change when a run goes on, and what may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genctl.config.load import differences, flatten, load_config, validate, with_overrides
from genctl.config.schema import RunConfig
from genctl.errors import ConfigError

FREE = (
    "train.steps",
    "log.",
    "train.checkpoint_every",
    "train.keep",
    "train.compile",
    "train.on_out_of_memory",
    "evaluate.",
    "data.spec",
)
"""Keys that may change, because no weight depends on them: scores tell how they were taken, and of
data that lies elsewhere the fingerprint is compared afterwards."""

NOT_ASKED = ("found", "about", "preset")
"""Keys that no user sets."""

_ABOUT = ("about", "preset")
"""Keys that decide nothing."""


def continued(
    old: RunConfig, preset: str | None, changes: Sequence[str], data: str | None, run: str
) -> RunConfig:
    """A run's own configuration with the free keys changed.

    Args:
        old: the run's configuration.
        preset: given too when a script repeats its whole command; it must then say the same.
        changes: ``path=value`` overrides.
        data: a data SPEC given beside them.
        run: the run's name, for the message.

    Raises:
        ConfigError: any other key would change; all of them are named with both values.
    """
    changes = [text for text in changes if text != "train.precision=auto"]  # already resolved
    wanted = with_overrides(old, changes)
    if preset is not None:
        wanted = load_config(preset, changes).model_copy(update={"found": old.found})
        if wanted.train.precision == "auto":
            wanted = with_overrides(wanted, {"train.precision": old.train.precision})
        if old.train.on_out_of_memory == "halve":  # what was asked may not have fitted
            size = min(wanted.train.batch_size, old.train.batch_size)
            wanted = with_overrides(wanted, {"train.batch_size": size})
        if data is None:
            wanted = with_overrides(wanted, {"data.spec": old.data.spec})
    refused = {
        key: pair
        for key, pair in differences(old, wanted).items()
        if not key.startswith((*FREE, *NOT_ASKED))
    }
    if refused:
        problems = [f"{key}: the run has {a!r}, asked {b!r}" for key, (a, b) in refused.items()]
        raise ConfigError(run, problems, "leave these as they are, or start a new run with --out")
    return wanted


def lasting(config: RunConfig) -> dict[str, Any]:
    """What a checkpoint keeps of its run's configuration: everything that may not change."""
    node: dict[str, Any] = config.model_dump(mode="json", exclude=set(_ABOUT))
    for key in FREE:
        section, _, name = key.partition(".")
        if name:
            node[section].pop(name)
        else:
            node.pop(section)
    return node


def edited(config: RunConfig, kept: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted paths whose values are others than a checkpoint kept, with both, the former first.

    Args:
        config: the configuration now.
        kept: what ``lasting`` returned when the checkpoint was written. Keys that came with a
            later version of genctl have their defaults there.

    Raises:
        ConfigError: ``kept`` is no configuration.
    """
    # Earlier versions kept a part of the section `evaluate`, which is all free now.
    whole = validate({key: value for key, value in kept.items() if key != "evaluate"}, "kept")
    a, b = flatten(lasting(whole)), flatten(lasting(config))
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}
