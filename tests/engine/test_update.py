"""The one place for mechanics: freezing, counting, clipping, the non-finite policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
import torch
from torch import nn

from genctl.config.schema import EmaConfig, RunConfig, TrainConfig
from genctl.contracts import GenerativeModel
from genctl.engine import update as engine_update
from genctl.engine.averaging import Average
from genctl.engine.finite_step import step_unread
from genctl.engine.update import Updater
from genctl.registry import resolve


class Game(GenerativeModel):
    """V = xy: x minimises, y maximises."""

    players: Mapping[str, Sequence[str]] = {"x": ("x",), "y": ("y",)}
    averaged: ClassVar[Sequence[str]] = ("x",)

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.norm = nn.BatchNorm1d(1, affine=False)
        nn.init.constant_(self.x.weight, 1.0)
        nn.init.constant_(self.y.weight, 1.0)
        self.called: list[str] = []

    def after_update(self, player: str) -> None:
        self.called.append(player)

    def value(self):
        return (self.x.weight * self.y.weight).sum()


def updater(kind="sgd", clip=None, device="cpu", half_life=None, last=None, **settings):
    model = Game().to(device)
    node = resolve("optimiser", {"kind": kind, "lr": 0.1, **settings}, "optim")[0]
    ema = EmaConfig(half_life_images=half_life, last=last, warmup=0.0)
    config = RunConfig(
        model={"kind": "game"}, optim={"x": node, "y": node}, train=TrainConfig(clip=clip), ema=ema
    )
    average = Average(model, ema)
    clock = {"images": 0}
    update = Updater(model, config, average, "fp32", lambda: clock["images"])
    update.begin_step(1, True)
    return model, update, average, clock


def weights(model):
    return model.x.weight.item(), model.y.weight.item()


def test_only_the_players_parameters_move_and_everything_is_counted(device):
    model, update, _, _ = updater(device=device)
    metrics = update("x", model.value)
    assert weights(model) == (pytest.approx(0.9), 1.0)
    assert model.y.weight.grad is None
    assert not model.y.weight.requires_grad
    assert (update.count("x"), update.count("y")) == (1, 0)
    assert float(metrics["loss/x"]) == 1.0
    assert not metrics["loss/x"].requires_grad
    assert model.called == ["x"]
    assert update.window.read() == {"loss/x": 1.0, "grad_norm/x": 1.0}


def test_the_logged_loss_is_what_was_differentiated():
    model, update, _, _ = updater()

    def loss():
        penalty = 10.0 * model.x.weight.square().sum()
        return model.value() + penalty, {"penalty/weight": penalty / 10.0}

    metrics = update("x", loss)
    assert float(metrics["loss/x"]) == 11.0
    assert float(metrics["penalty/weight"]) == 1.0
    assert weights(model)[0] == pytest.approx(1.0 - 0.1 * (1.0 + 20.0))


def test_simultaneous_steps_spiral_out_and_alternating_ones_do_not():
    """T10: with V = xy, x² + y² grows by exactly (1 + η²) a simultaneous step."""
    model, update, _, _ = updater()
    before = sum(w * w for w in weights(model))
    for _ in range(100):
        update.together({"x": model.value, "y": lambda: -model.value()})
    assert sum(w * w for w in weights(model)) == pytest.approx(before * 1.01**100, rel=1e-4)
    model, update, _, _ = updater()
    largest = 0.0
    for _ in range(1000):
        update("x", model.value)
        update("y", lambda: -model.value())
        largest = max(largest, sum(w * w for w in weights(model)))
    assert largest < 1.2 * before


def test_the_norm_is_logged_before_clipping():
    model, update, _, _ = updater(clip=0.5)
    update("x", lambda: 4.0 * model.value())
    assert update.window.read()["grad_norm/x"] == 4.0
    assert weights(model)[0] == pytest.approx(1.0 - 0.1 * 0.5, rel=1e-4)


@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_non_finite_gradient_skips_the_step_and_its_moments(kind, unread, device, monkeypatch):
    """The step with a bad gradient must leave no trace but its count, decided by anyone or none."""
    if unread:  # as on a GPU, where nobody waits for the norm
        monkeypatch.setattr(engine_update, "step_where_finite", step_unread)
    settings = {"momentum": 0.9} if kind in ("sgd", "rmsprop") else {}
    clean, update_clean, _, _ = updater(kind, device=device, **settings)
    dirty, update, _, _ = updater(kind, device=device, **settings)
    update("x", lambda: dirty.value() * float("nan"))  # the very first step
    for _ in range(3):
        update_clean("x", clean.value)
        update("x", dirty.value)
    update("x", lambda: dirty.value() * float("inf"))
    update_clean("x", clean.value)
    update("x", dirty.value)
    assert weights(dirty)[0] == pytest.approx(weights(clean)[0], rel=1e-6)
    skipped = update.players["x"].skipped.tolist()
    assert skipped == [2.0, 0.0, 1.0]
    assert update.count("x") == 6


def test_skips_in_a_row_are_counted_to_the_longest():
    model, update, _, _ = updater()
    for bad in (True, True, True, False, True):
        update("x", lambda bad=bad: model.value() * (float("nan") if bad else 1.0))
    assert update.players["x"].skipped.tolist() == [4.0, 1.0, 3.0]


def test_buffers_of_frozen_modules_move():
    model, update, _, _ = updater()
    batch = torch.tensor([[1.0], [3.0]])
    update("x", lambda: model.value() + 0.0 * model.norm(batch).sum())
    assert float(model.norm.running_mean) == pytest.approx(0.2)


def test_a_parameter_without_gradient_is_not_stepped():
    """Weight decay would move it: a player's None gradient means leave it alone."""
    model, update, _, _ = updater("adamw", weight_decay=0.5)
    update("x", lambda: (model.y.weight.detach() * 0.0).sum().requires_grad_())
    assert weights(model)[0] == 1.0


def test_the_rate_follows_the_players_own_count():
    schedule = {"kind": "linear", "start": 0, "end": 4}
    model, update, _, _ = updater(schedule=schedule)
    seen = []
    for _ in range(5):
        update("x", model.value)
        update("y", lambda: 0.0 * model.value())
        update("y", lambda: 0.0 * model.value())
        seen.append(update.players["x"].rule.optimiser.param_groups[0]["lr"])
    assert seen == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0])


def test_exponential_average_equals_its_closed_form(device):
    """T5: after n updates, avg = d^n·w₀ + Σ (1−d)·d^(n−i)·wᵢ."""
    model, update, average, clock = updater(half_life=20.0, device=device)
    history = [weights(model)[0]]
    for _ in range(7):
        clock["images"] += 10
        update("x", model.value)
        history.append(weights(model)[0])
    d, n = 0.5 ** (10 / 20), 7
    expected = d**n * history[0] + sum((1 - d) * d ** (n - i) * history[i] for i in range(1, n + 1))
    assert average.modules["x"].weight.item() == pytest.approx(expected, rel=1e-5)


def test_mean_of_the_last_iterates_equals_its_closed_form():
    model, update, average, _ = updater(last=3)
    history = []
    for _ in range(5):
        update("x", model.value)
        history.append(weights(model)[0])
    assert average.modules["x"].weight.item() == pytest.approx(sum(history[-3:]) / 3, rel=1e-6)


def test_the_average_is_lent_and_given_back():
    model, update, average, clock = updater(half_life=20.0)
    clock["images"] = 10
    update("x", model.value)
    own = model.x
    with average.applied(model):
        assert model.x is average.modules["x"]
    assert model.x is own


def test_noise_depends_on_the_step_only():
    _, update, _, _ = updater()
    first = update.rng.normal(4, 2)
    update.begin_step(2, False)
    second = update.rng.normal(4, 2)
    update.begin_step(1, False)
    assert torch.equal(first, update.rng.normal(4, 2))
    assert not torch.equal(first, second)
