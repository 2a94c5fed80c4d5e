"""kill -9 at random instants, a few for every algorithm class; ``long_crash_run.py`` does many."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from campaign import CLASSES, Campaign, configuration

from genctl.config import presets
from genctl.config.load import load_config


def test_every_algorithm_class_is_among_them():
    kinds = {configuration(name, 1).model["kind"] for name in CLASSES}
    used = {load_config(name).model["kind"] for name in presets.paths()}
    assert kinds == used


def test_the_long_run_is_recorded_for_every_class():
    record = json.loads(Path(__file__).with_name("long_crash_run.json").read_text())["by_class"]
    assert record.keys() == CLASSES.keys()
    assert min(found["kills"] for found in record.values()) >= 12
    assert sum(found["kills"] for found in record.values()) >= 100


@pytest.mark.parametrize("name", [name for name in CLASSES if "toy" not in name])
def test_killed_twice_a_run_equals_one_that_never_was(name, server, tmp_path):
    campaign = Campaign(server, tmp_path / "campaign", name, steps=8, every=1)
    campaign.kill(2, random.Random(name), earliest=0.4)  # mostly after the imports
    assert campaign.counts["kills"] == 2
