"""A6 and A7 as whole games: what is logged, what is refused, and what a critic is worth."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl import registry
from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.engine.compilation import compile_networks
from genctl.engine.construction import begin, build
from genctl.engine.fit import complete, fit, open_data
from genctl.models import adversarial, restraints
from genctl.models.constraints import WeightClip
from genctl.objectives.adversarial import NonSaturating, Wasserstein
from genctl.objectives.penalties import GradientPenalty
from genctl.randomness import RandomStream
from genctl.types import DataSpec


def training_of(config):
    dataset = open_data(config, None)
    config = complete(config, dataset, None, torch.device("cpu"))
    training = build(config, dataset, torch.device("cpu"))
    begin(training, None)
    return training


def moves(*stream):
    """What a penalty is given of an update, on one rank."""
    return SimpleNamespace(rng=RandomStream(0, *stream), mean=lambda value: value)


def step(training, number, logging=False):
    training.update.begin_step(number, logging)
    training.model.training_step(training.loader, training.update)


def test_the_presets_are_the_papers():
    wgan, penalised = load_config("wgan"), load_config("wgan-gp")
    for config in (wgan, penalised, load_config("wgan-gp-ring")):
        assert config.model["objective"] == {"kind": "wasserstein"}
        assert config.model["play"] == {"kind": "fixed", "discriminator": 5, "generator": 1}
    assert (wgan.train.batch_size, penalised.train.batch_size) == (64, 64)
    assert wgan.model["constraint"] == {"kind": "weight-clip", "limit": 0.01}
    assert wgan.model["penalty"] is None
    for rule in wgan.optim.values():
        assert (rule["kind"], rule["lr"]) == ("rmsprop", 5e-5)
    assert penalised.model["penalty"]["weight"] == 10.0
    assert penalised.model["constraint"] is None
    for rule in penalised.optim.values():
        assert (rule["kind"], rule["lr"], rule["betas"]) == ("adam", 1e-4, [0.0, 0.9])
    ring = load_config("wgan-gp-ring")
    plain = load_config("gan-ring")
    assert ring.model["generator"] == plain.model["generator"]
    assert ring.model["discriminator"] == plain.model["discriminator"]


def test_the_log_says_what_was_differentiated(tmp_path):
    """loss/discriminator = −wasserstein + λ·penalty/gradient; five critic updates for one of G."""
    config = small("wgan-gp-ring", train__steps=4, model__penalty__weight=0.3)
    fit(config, None, tmp_path / "run", device="cpu")
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    for number, row in enumerate(map(json.loads, lines), start=1):
        gap = row["score/real"] - row["score/fake"]
        assert row["wasserstein"] == pytest.approx(gap, abs=1e-5)
        loss = -gap + 0.3 * row["penalty/gradient"]
        assert row["loss/discriminator"] == pytest.approx(loss, rel=1e-4, abs=1e-5)
        assert row["loss/generator"] == pytest.approx(-row["score/generator"], abs=1e-5)
        assert row["penalty/gradient"] > 0
        assert "accuracy/discriminator" not in row
        assert (row["steps/discriminator"], row["steps/generator"]) == (5 * number, number)
        assert row["images"] == 8 * 5 * number


def test_clipped_weights_stay_in_their_box_after_every_update(monkeypatch):
    training = training_of(small("wgan", model__constraint__limit=0.02))
    largest = {"discriminator": [], "generator": []}
    original = type(training.model).after_update

    def watched(self, player):
        original(self, player)
        network = getattr(self, player)
        largest[player].append(max(float(p.detach().abs().max()) for p in network.parameters()))

    monkeypatch.setattr(type(training.model), "after_update", watched)
    for number in (1, 2, 3):
        step(training, number)
    assert len(largest["discriminator"]) == 15
    assert max(largest["discriminator"]) <= 0.02
    assert min(largest["discriminator"]) > 0.01, "clipped, not emptied"
    assert max(largest["generator"]) > 0.1, "the generator is free"


@pytest.mark.parametrize(
    ("preset", "changes", "reason", "remedy"),
    [
        ("wgan-gp", ["model.discriminator.kind=dcgan"], "batch norm", "conv-critic"),
        ("wgan-gp", ["model.constraint.kind=weight-clip"], "clipped weights", "null"),
        ("wgan", ["model.penalty.kind=gradient-penalty"], "clipped weights", "null"),
        ("dcgan", ["model.penalty.kind=gradient-penalty"], "batch norm", "conv-critic"),
    ],
)
def test_what_does_not_go_together_is_refused(preset, changes, reason, remedy, tmp_path, capsys):
    settings = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "run"
    words = ["train", "--preset", preset, "--data", "digits", "--out", str(out), "--device", "cpu"]
    settings += ["--steps", "1", "--batch-size", "2"]
    assert main([*words, *settings, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert reason in error["reason"]
    assert remedy in error["remedy"]
    assert not out.exists()


def test_the_remedy_for_batch_norm_works(tmp_path):
    """A penalty goes with a discriminator that classifies, too."""
    changes = {
        "model__penalty": {"kind": "gradient-penalty"},
        "model__discriminator": {"kind": "conv-critic", "width": 8},
    }
    fit(small("quickstart", **changes), None, tmp_path / "run", device="cpu")
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert row["penalty/gradient"] > 0
    assert "accuracy/discriminator" in row
    assert "wasserstein" not in row


@pytest.mark.parametrize(("precision", "inside"), [("fp32", False), ("autocast", True)])
def test_the_penalty_runs_outside_autocast_unless_asked(precision, inside, monkeypatch):
    seen = []
    original = restraints.slope_of

    def watched(network, x, *how):
        gradient = original(network, x, *how)
        seen.append((torch.is_autocast_enabled("cpu"), x.dtype, gradient.dtype))
        return gradient

    monkeypatch.setattr(restraints, "slope_of", watched)
    training = training_of(
        small("wgan-gp", train__precision="bf16", model__penalty__precision=precision)
    )
    step(training, 1)
    dtype = torch.bfloat16 if inside else torch.float32
    assert seen == [(inside, torch.float32, dtype)] * 5


def test_in_bf16_only_the_penalty_of_a_network_in_fp32_is_exact(monkeypatch):
    """The same critic, points and noise: outside autocast the penalty equals the fp32 run's."""
    found = {}
    for train, own in (("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "autocast")):
        config = small("wgan-gp", train__precision=train, model__penalty__precision=own)
        model = training_of(config).model
        x, fake = torch.randn(2, 8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16, enabled=train == "bf16"):
            found[train, own] = penalty_of(model, x, fake, moves("p")).item()
    assert found["bf16", "fp32"] == found["fp32", "fp32"]
    assert found["bf16", "autocast"] != found["fp32", "fp32"]
    assert found["bf16", "autocast"] == pytest.approx(found["fp32", "fp32"], rel=0.05)


def penalty_of(model, real, fake, update):
    return model.restraint.cost(model.discriminator, real, fake, update)[1]["penalty/gradient"]


def test_a_compiled_critic_can_be_differentiated_twice(monkeypatch):
    """Compiled code has no second derivative: the penalty passes by it."""
    monkeypatch.setattr(restraints, "piecewise_linear", lambda network: None)
    plain, compiled = (training_of(small("wgan-gp-ring")) for _ in range(2))
    compile_networks(compiled.model, backend="aot_eager")
    for training in (plain, compiled):
        step(training, 1)
    for a, b in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


# --- what a critic is worth -----------------------------------------------------------------------
def best_critic(real, fake, kind, steps=200, lr=1e-2):
    """A discriminator for points on a line, trained for long on fixed examples."""
    torch.manual_seed(0)
    network = registry.get("discriminator", "mlp").build((1,), width=32, depth=1)
    optimiser = torch.optim.RMSprop(network.parameters(), lr=lr)
    objective = NonSaturating() if kind == "logit" else Wasserstein()
    model = adversarial.AdversarialModel(
        DataSpec("points", (1,), levels=0),
        generator=registry.get("generator", "mlp").build,
        discriminator=lambda shape: network,
        objective=lambda: objective,
        penalty=(lambda: GradientPenalty(weight=1.0)) if kind == "penalty" else None,
        constraint=(lambda: WeightClip(limit=0.1)) if kind == "clip" else None,
    )
    for i in range(steps):
        loss = objective.real(network(real).score) + objective.fake(network(fake).score)
        loss = loss.mean()
        loss = loss + model.restraint.cost(network, real, fake, moves("line", i))[0]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_update("discriminator")
    return network


def gaussians(distance, n=256):
    noise = torch.randn(2, n, 1, generator=torch.Generator().manual_seed(0))
    return noise[0] + 10.0 + distance, noise[1] + 10.0


@pytest.mark.parametrize("kind", ["clip", "penalty"])
def test_far_from_the_data_a_critic_still_points_the_way(kind):
    """Mean gradient at the fakes, 16 standard deviations away, at least ten times σ(D)'s."""
    real, fake = gaussians(16.0)
    slopes = {}
    for name in ("logit", kind):
        network, x = best_critic(real, fake, name), fake.clone().requires_grad_()
        score = network(x).score
        output = score.sigmoid() if name == "logit" else score
        (gradient,) = torch.autograd.grad(output.sum(), x)
        slopes[name] = float(gradient.mean())
    assert slopes[kind] > 0, "upwards, where the data are"
    assert slopes[kind] >= 10 * abs(slopes["logit"])


def test_the_estimate_is_proportional_to_the_wasserstein_distance():
    """On a line W₁ is the mean distance of the sorted examples; the factor is the slope allowed."""
    factors = []
    for distance in (3.0, 9.0, 27.0):
        real, fake = gaussians(distance)
        exact = float((real.sort(0).values - fake.sort(0).values).abs().mean())
        network = best_critic(real, fake, "clip")
        with torch.no_grad():
            estimate = float(network(real).score.mean() - network(fake).score.mean())
        factors.append(estimate / exact)
    assert max(factors) < 1.1 * min(factors)
    assert 0.1 < min(factors) < max(factors) <= 32 * 0.1 * 0.1, "at most the slope of the box"


def test_the_penalty_lets_the_slope_exceed_one_as_its_weight_says():
    """Far away the best slope s minimises −s·W₁ + λ(s−1)², so s = 1 + W₁/2λ."""
    real, fake = gaussians(4.0)
    exact = float(real.mean() - fake.mean())
    network = best_critic(real, fake, "penalty", steps=400)
    x = fake.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(x).score.sum(), x)
    assert float(slope.mean()) == pytest.approx(1 + exact / 2, rel=0.1)


def test_it_finds_the_modes_of_the_ring():
    """A wide ring in 250 short steps: every mode gets a fair share, and the estimate has fallen."""
    rule = {"kind": "adam", "lr": 3e-3, "betas": [0.5, 0.9]}
    config = load_config(
        "wgan-gp-ring",
        {
            "data.spec": "toy:ring?std=0.2",
            "model.latent_dim": 8,
            "model.generator.width": 64,
            "model.discriminator.width": 64,
            "model.penalty.weight": 1.0,
            "optim": {"discriminator": rule, "generator": rule},
            "train.batch_size": 64,
        },
    )
    training = training_of(config)
    estimates = []
    for number in range(1, 251):
        step(training, number)
        estimates.append(training.update.window.read()["wasserstein"])
        training.update.window.clear()
    angles = torch.arange(8) * 2 * math.pi / 8
    modes = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    with torch.no_grad():
        distances = torch.cdist(training.model.sample(2000, RandomStream(1, "ring")), modes)
    good = distances.min(1).values < 3 * 0.2
    counts = distances.argmin(1)[good].bincount(minlength=8)
    assert (counts >= 0.02 * 2000).sum() >= 7, counts
    assert good.float().mean() > 0.45, "a shapeless cloud of this size has a quarter"
    late = sum(estimates[-25:]) / 25
    assert late < 0.5 * max(estimates)
