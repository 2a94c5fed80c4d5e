"""kill -9 at random instants, a few for every algorithm class; ``long_crash_run.py`` does many."""

from __future__ import annotations

import random

import pytest
from campaign import CLASSES, Campaign, configuration

from genctl import registry


def test_every_algorithm_class_is_among_them():
    registry.discover()
    kinds = {configuration(name, 1).model["kind"] for name in CLASSES}
    assert kinds == set(registry.names("model")) - {"maximum-likelihood"} | (
        kinds & {"maximum-likelihood"}
    )


@pytest.mark.parametrize("name", CLASSES)
def test_killed_twice_a_run_equals_one_that_never_was(name, server, tmp_path):
    campaign = Campaign(server, tmp_path / "campaign", name, steps=20, every=1)
    campaign.kill(2, random.Random(name))
    assert campaign.counts["kills"] == 2
