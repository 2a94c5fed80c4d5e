"""Registered ⇒ listed ⇒ tested: every preset trains and does what it advertises."""

from __future__ import annotations

import json

import pytest
import torch
from shrinking import small

from genctl.config import presets
from genctl.config.load import load_config
from genctl.contracts import capabilities
from genctl.data.loader import evaluation_batches
from genctl.engine.fit import fit, open_data
from genctl.engine.run import open_run
from genctl.randomness import RandomStream
from genctl.report.recorded import read_results

NAMES = list(presets.paths())


def test_presets_were_found():
    assert len(NAMES) >= 80


@pytest.mark.parametrize("name", NAMES)
def test_what_a_preset_promises_was_recorded(name):
    if load_config(name).about["expect"] != "not yet measured":
        assert name in read_results(presets.folder() / "results")


def mostly_near(a, b):
    """A discrete draw may fall the other way."""
    return ((a - b).abs() < 1e-4).float().mean() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_preset_trains_two_steps_and_exercises_its_capabilities(name, device, tmp_path):
    config = small(name)
    result = fit(config, None, tmp_path / "run", device=device)
    assert result.stopped_by == "steps"
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert all("nonfinite" not in row for row in rows)
    run = open_run(tmp_path / "run", device)
    assert run.step == 2
    for player in run.model.players:
        assert f"loss/{player}" in rows[-1]
        assert rows[-1][f"steps/{player}"] >= 2
    able = capabilities(run.model)
    assert able, "a preset that can do nothing is of no use"
    batch = next(iter(evaluation_batches(open_data(run.config, None), 4, device)))
    shape = run.spec.shape
    if "sample" in able:
        drawn = run.sample(5, seed=1)
        assert drawn.shape == (5, *shape)
        for more, same in (
            (drawn, run.sample(70, seed=1)[:5]),
            (drawn[3:], run.sample(2, seed=1, first=3)),
        ):
            # A GPU may choose another kernel for another size of batch.
            assert torch.equal(more, same) if device == "cpu" else mostly_near(more, same)
        assert not torch.equal(drawn, run.sample(5, seed=2))
        assert mostly_near(drawn, run.sample(5, seed=1, batch_size=2))
        if run.spec.kind == "image":
            assert drawn.abs().max() <= 1.0
    if "interpolate" in able:
        z = run.model.sample_latent(3, run.stream(0, "z"))
        assert run.model.decode(z).shape == (3, *shape)
    if "encode" in able:
        assert len(run.model.encode(batch.x)) == 4
    if "reconstruct" in able:
        assert run.model.reconstruct(batch.x).shape == batch.x.shape
    if "log_likelihood" in able:
        found = run.log_likelihood(batch)
        assert found.values.shape == (4,)
        assert found.kind in ("exact", "lower_bound", "estimate")
        assert torch.isfinite(found.values).all()
    if "complete" in able:
        mask = torch.zeros(4, 1, *shape[1:], device=device)
        mask[..., : shape[1] // 2, :] = 1.0
        filled = run.model.complete(
            batch.x, mask, RandomStream(0, "c", device=torch.device(device))
        )
        assert torch.equal(filled * mask, batch.x * mask)
    if "classify" in able:
        assert run.model.classify(batch.x).shape == (4, run.spec.classes)
    if "cluster" in able:
        assert len(run.model.cluster(batch.x)) == 4
    if "sweep_codes" in able:
        swept = run.model.sweep_codes(2, 3, run.stream(0, "codes"))
        assert swept.shape[1:3] == (2, 3)
        assert run.model.decode(swept[-1, 0]).shape == (3, *shape)
    for name_, method in (("features", "features"), ("discriminator_features",) * 2):
        if name_ in able:
            assert getattr(run.model, method)(batch.x).shape[0] == 4


@pytest.mark.parametrize("name", NAMES)
def test_an_update_changes_exactly_its_players_parameters(name, tmp_path):
    """Each trainable parameter belongs to a player, and only the player's move."""
    from genctl.engine.construction import begin, build
    from genctl.engine.fit import complete, open_data

    config = small(name)
    dataset = open_data(config, None)
    config = complete(config, dataset, None, torch.device("cpu"))
    training = build(config, dataset, torch.device("cpu"))
    begin(training, None)
    model, update = training.model, training.update
    owned = {id(p) for player in update.players.values() for p in player.parameters}
    assert {id(p) for p in model.parameters()} == owned

    original = type(update)._apply
    seen = []

    def watched(self, player, norm):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        original(self, player, norm)
        mine = {id(p) for p in self.players[player].parameters}
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        strangers = {n for n, p in model.named_parameters() if id(p) not in mine}
        assert not moved & strangers
        seen.append((player, len(moved)))

    type(update)._apply = watched
    try:
        for step in (1, 2, 3):
            update.begin_step(step, True)
            model.training_step(training.loader, update)
    finally:
        type(update)._apply = original
    for player in model.players:
        assert any(moved > 0 for who, moved in seen if who == player), f"{player} never moved"
