"""A14 and the few-images switch: historical averaging, differentiable augmentation, refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.config.load import with_overrides
from genctl.data.dataset import open_dataset
from genctl.engine.construction import build
from genctl.engine.fit import complete, fit
from genctl.errors import ConfigError
from genctl.models.augmentation import augment, colour, cutout, translation
from genctl.models.historical_averaging import HistoricalAverage
from genctl.randomness import RandomStream

CPU = torch.device("cpu")


def rng(**place):
    return RandomStream(0, "augment", **place)


# --- historical averaging -------------------------------------------------------------------------
def test_the_distance_is_from_the_mean_of_all_past_weights():
    model = nn.ModuleDict({"net": nn.Linear(1, 1)})
    past = HistoricalAverage(model, {"player": ("net",)}, weight=0.5)
    assert float(past.distance(model, "player").detach()) == 0.0, "there is no past yet"
    for w, b in ((1.0, 0.0), (3.0, 2.0), (8.0, 4.0)):
        nn.init.constant_(model["net"].weight, w)
        nn.init.constant_(model["net"].bias, b)
        past.record(model, "player")
    assert past.mean_player.tolist() == pytest.approx([4.0, 2.0])
    distance = past.distance(model, "player")
    assert float(distance.detach()) == pytest.approx(0.5 * ((8 - 4) ** 2 + (4 - 2) ** 2))
    (slope,) = torch.autograd.grad(distance, model["net"].weight)
    assert slope.item() == pytest.approx(0.5 * 2 * (8 - 4))


# --- augmentation ---------------------------------------------------------------------------------
@pytest.mark.parametrize("change", [colour, translation, cutout])
def test_rows_are_changed_by_draws_of_their_own(change):
    x = torch.rand(130, 3, 8, 12) * 2 - 1
    whole = change(x, rng())
    assert whole.shape == x.shape
    assert not torch.equal(whole, x)
    halves = [change(x[r * 65 : r * 65 + 65], rng(rank=r)) for r in (0, 1)]
    assert torch.equal(torch.cat(halves), whole), "two ranks change what one would"


@pytest.mark.parametrize("change", [colour, translation, cutout])
def test_gradients_pass_through(change):
    x = torch.rand(4, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: change(x, rng()), (x,))


def test_translation_moves_up_to_an_eighth_and_shows_grey_behind():
    x = torch.arange(1.0, 65.0).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    moved = translation(x, rng())
    seen = set()
    for one in moved[:, 0]:
        found = [
            (dy, dx)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if torch.equal(one, shifted(x[0, 0], dy, dx))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 9


def shifted(x, dy, dx):
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    return padded[1 + dy : 9 + dy, 1 + dx : 9 + dx]


def test_cutout_covers_a_square_of_half_the_edges():
    kept = cutout(torch.ones(400, 2, 8, 8), rng())
    assert torch.equal(kept[:, 0], kept[:, 1])
    covered = 1 - kept[:, 0]
    assert covered.sum((1, 2)).max() == 16
    rows, columns = covered.amax(2).sum(1), covered.amax(1).sum(1)
    assert torch.equal(covered.sum((1, 2)), rows * columns), "a rectangle, cut at the border"
    assert rows.min() >= 2


def test_colour_by_hand():
    """Of one grey value only brightness is left; of two, contrast too; saturation keeps grey."""
    flat = colour(torch.zeros(500, 3, 2, 2), rng())
    assert (flat - flat[:, :1, :1, :1]).abs().max() < 1e-6
    assert -0.5 <= float(flat.min()) < -0.45
    assert 0.45 < float(flat.max()) <= 0.5
    two = torch.ones(500, 3, 1, 2)
    two[..., 0] = -1
    changed = colour(two, rng())
    contrast = (changed[..., 1] - changed[..., 0]) / 2
    assert 0.5 <= float(contrast.min()) < 0.55
    assert 1.45 < float(contrast.max()) <= 1.5
    assert torch.allclose(changed[:, 0], changed[:, 2], atol=1e-6)


def test_the_generator_learns_through_the_change(tmp_path):
    changes = {"model__augment": ["colour", "translation", "cutout"], "data__size": 8}
    fit(small("dcgan", **changes), "digits", tmp_path / "run", device="cpu")
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert row["grad_norm/generator"] > 0


def test_nothing_is_changed_without_being_asked():
    x = torch.rand(2, 1, 4, 4)
    assert augment(x, (), rng()) is x


# --- what goes together ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("preset", "changes", "reason"),
    [
        ("infogan", {"model__penalty": {"kind": "dragan"}}, "batch norm"),
        ("semi-supervised-gan", {"model__constraint": {"kind": "weight-clip"}}, "constraint"),
        ("discrete-gan-gumbel", {"model__augment": ["colour"]}, "augment"),
        (
            "lapgan",
            {"model__penalty": {"kind": "dragan"}, "model__constraint": {"kind": "weight-clip"}},
            "clipped weights",
        ),
        ("gan-ring", {"model__augment": ["colour"]}, "no pictures"),
        ("cgan", {"model__history": 10}, "without their labels"),
        ("dcgan", {"model__objective": {"kind": "energy-margin"}}, "wants an energy"),
        ("began", {"model__objective": {"kind": "hinge"}}, "is an energy"),
        (
            "dcgan",
            {"model__terms": [{"kind": "feature-matching"}, {"kind": "feature-matching"}]},
            "takes the place",
        ),
        ("dragan", {"model__discriminator": {"kind": "dcgan"}}, "batch norm"),
        ("wgan", {"model__discriminator": {"kind": "dcgan", "norm": "spectral"}}, "does nothing"),
        ("wgan", {"model__discriminator": {"kind": "dcgan", "norm": "weight"}}, "does nothing"),
        ("lsgan", {"model__objective__generator_target": 0.0}, "would look fake"),
        (
            "dragan",
            {"model__discriminator": {"kind": "mlp", "minibatch_kernels": 4}},
            "minibatch discrimination",
        ),
        ("ebgan", {"model__objective__real_target": 0.9}, "belongs to .*non-saturating"),
    ],
)
def test_what_does_not_go_together_is_refused(preset, changes, reason, tmp_path):
    with pytest.raises(ConfigError, match=reason) as caught:
        fit(small(preset, **changes), None, tmp_path / "run", device="cpu")
    assert caught.value.remedy
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model__terms": [{"kind": "feature-matching", "alone": False}, {"kind": "pulling-away"}]},
        {"model__historical_averaging": 0.01, "model__history": 16},
        {"model__objective": {"kind": "f-divergence", "divergence": "pearson"}},
        {"model__objective": {"kind": "hinge"}, "model__play": {"kind": "fixed", "generator": 2}},
    ],
)
def test_combinations_train(changes, tmp_path):
    fit(small("dcgan", data__size=8, **changes), "digits", tmp_path / "run", device="cpu")
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert "nonfinite" not in row
    names = {"feature_matching", "pulling_away"} if "model__terms" in changes else set()
    assert {f"term/{name}" for name in names} <= set(row)
    assert all(row[f"term/{name}"] > 0 for name in names)


PENALTY = {"kind": "gradient-penalty", "target": 0.0}
PLAY = {"kind": "fixed", "discriminator": 2, "generator": 3}


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("infogan", {"model__augment": ["colour", "translation"]}),
        ("semi-supervised-gan-mnist", {"model__labels": 20, "model__augment": ["cutout"]}),
        ("lapgan", {"data__size": 8, "model__augment": ["translation"]}),
        ("discrete-gan-reinforce", {}),
        ("discrete-gan-gumbel", {}),
    ],
)
def test_other_games_take_a_rhythm_a_penalty_and_augmentation_too(preset, changes, tmp_path):
    """Losses of one draw differ by exactly λ times the penalty; the counts are those asked for."""
    rows = {}
    for weight in (0.0, 7.0):
        parts = {"model__penalty": {**PENALTY, "weight": weight}, "model__play": PLAY}
        without = (
            {"model__discriminator": {"kind": "mlp", "width": 8}} if preset == "infogan" else {}
        )
        config = small(preset, **{**parts, **without, **changes, "train__steps": 1})
        still = {f"optim.{p}": {"kind": "sgd", "lr": 1e-12} for p in config.optim}
        out = tmp_path / str(weight)
        fit(with_overrides(config, still), "digits", out, device="cpu")
        rows[weight] = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    plain, penalised = rows.values()
    assert plain["penalty/gradient"] > 0
    assert plain["penalty/gradient"] == pytest.approx(penalised["penalty/gradient"], rel=1e-5)
    cost = penalised["loss/discriminator"] - plain["loss/discriminator"]
    assert cost == pytest.approx(7.0 * plain["penalty/gradient"], rel=1e-3)
    assert (plain["steps/discriminator"], plain["steps/generator"]) == (2, 3)
    assert plain["grad_norm/generator"] > 0


@pytest.mark.parametrize("preset", ["infogan", "lapgan", "discrete-gan-gumbel"])
def test_other_discriminators_are_clipped(preset):
    parts = {"model__constraint": {"kind": "weight-clip", "limit": 0.001}}
    if preset == "discrete-gan-gumbel":
        parts["model__discriminator__norm"] = "none"
    config = small(preset, data__size=16, **parts)
    dataset = open_dataset("digits", size=16, binarise=config.data.binarise)
    model = build(complete(config, dataset, None, CPU), dataset, CPU).model
    named = list(model.named_parameters())
    judges = [p for name, p in named if name.startswith("discriminator")]
    model.after_update("generator")
    assert max(float(p.detach().abs().max()) for p in judges) > 0.001
    model.after_update("discriminator")
    assert max(float(p.detach().abs().max()) for p in judges) <= 0.0011
    others = [p for name, p in named if name.startswith("generator")]
    assert max(float(p.detach().abs().max()) for p in others) > 0.001


def test_a_critic_whose_slope_nothing_bounds_is_warned_of():
    for changes, warned in (
        ({"model__constraint": None}, True),
        ({}, False),
        ({"model__constraint": None, "model__penalty": {"kind": "gradient-penalty"}}, False),
        ({"model__constraint": None, "model__discriminator__norm": "spectral"}, False),
    ):
        config = small("wgan", model__discriminator__kind="conv-critic", **changes)
        dataset = open_dataset("digits", size=16)
        model = build(complete(config, dataset, None, torch.device("cpu")), dataset, CPU).model
        assert any("slope" in text for text in model.warnings(10**6)) == warned, changes


def test_few_images_are_warned_of(tmp_path):
    notes = []

    class Listening:
        def note(self, text):
            notes.append(text)

        def __getattr__(self, name):
            return lambda *_: None

    for images in (0, 1):
        config = small("dcgan", model__discriminator__width=256 * (1 - images) + 4 * images)
        fit(config, "digits", tmp_path / f"run{images}", device="cpu", report=Listening())
    found = [text for text in notes if "by heart" in text]
    assert len(found) == 1
    assert "model.augment" in found[0]
    dataset = open_dataset("digits")
    for name in ("infogan", "semi-supervised-gan"):
        built = build(complete(small(name), dataset, None, CPU), dataset, CPU).model
        assert len(list(built.warnings(0))) == 1
        assert not list(built.warnings(10**9))
