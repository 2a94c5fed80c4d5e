"""What the adversarial model owes to the layers of its networks: references, and who is seen apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl import registry
from genctl.contracts import GenerativeModel
from genctl.engine.construction import begin, build
from genctl.engine.fit import complete, open_data
from genctl.errors import ConfigError
from genctl.models.adversarial import AdversarialModel
from genctl.models.constraints import WeightClip
from genctl.networks.layers.noise import drawing_layers


def begun(preset, **changes):
    config = small(preset, **changes)
    dataset = open_data(config, None)
    config = complete(config, dataset, None, torch.device("cpu"))
    training = build(config, dataset, torch.device("cpu"))
    begin(training, None)
    return training, dataset


def test_references_are_latents_and_the_first_examples():
    """A14: chosen once, before the first step; the averaged generator has the same."""
    changes = {"model__generator__norm": "virtual", "model__discriminator__norm": "virtual"}
    training, _ = begun("quickstart", **changes)
    model = training.model
    examples = torch.cat([next(training.loader.whole()).x for _ in range(1)])
    reference = model.discriminator.layers.reference
    assert torch.equal(reference[: len(examples)], examples)
    latents = model.generator.layers.reference
    assert latents.shape == (64, 4, 1, 1)
    assert float(latents.std()) == pytest.approx(1.0, abs=0.2)
    assert torch.equal(training.average.modules["generator"].layers.reference, latents)
    assert training.loader.images == 0
    before = [reference.clone(), latents.clone()]
    for _ in range(3):
        training.advance(False)
    assert torch.equal(reference, before[0])
    assert torch.equal(latents, before[1])


def test_a_model_that_chooses_no_references_is_refused(monkeypatch):
    monkeypatch.setattr(AdversarialModel, "initialise", GenerativeModel.initialise)
    with pytest.raises(ConfigError, match=r"virtual in generator\.layers"):
        begun("gan-ring", model__generator__norm="virtual")


@pytest.mark.parametrize(
    ("option", "apart"),
    [
        ({}, False),
        ({"norm": "spectral"}, False),
        ({"norm": "virtual"}, False),
        ({"norm": "batch"}, True),
        ({"minibatch_kernels": 2}, True),
        ({"noise": 0.1}, True),  # its draws belong to the rows of the whole batch
        ({"dropout": 0.1}, True),
    ],
)
def test_who_sees_real_and_generated_examples_apart(option, apart):
    changes = {f"model__discriminator__{key}": value for key, value in option.items()}
    training, _ = begun("gan-ring", **changes)
    model = training.model
    assert model.apart == apart
    shown = []
    model.discriminator.register_forward_hook(lambda _, x, out: shown.append(len(x[0])))
    training.advance(False)
    assert shown == ([8, 8, 8] if apart else [16, 8])
    for layer in drawing_layers(model):
        assert layer.stream is not None
        assert layer.stream.address[1:] == ("training", 1, "layers")


def stable_rank_after(norm, clip=None, steps=100):
    """‖W‖²_F / σ²_max of the middle layer, after telling two points apart from a cloud."""
    torch.manual_seed(0)
    network = registry.get("discriminator", "mlp").build((2,), width=32, norm=norm)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.9))
    for _ in range(steps):
        real = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).repeat(16, 1) + 0.02 * torch.randn(32, 2)
        losses = 1 - network(real).score, 1 + network(torch.randn(32, 2)).score
        optimiser.zero_grad()
        sum(loss.relu().mean() for loss in losses).backward()
        optimiser.step()
        if clip is not None:
            WeightClip(limit=clip)(network)
    middle = [m for m in network.eval().modules() if isinstance(m, nn.Linear)][1]
    singular = torch.linalg.svdvals(middle.weight.detach().double())
    return float(singular.square().sum() / singular[0].square())


def test_the_spectrum_is_flatter_under_spectral_norm_than_under_weight_norm_and_clipping():
    """T11 (Miyato et al. 2018, section 3 and figure 3): more directions stay in use."""
    spectral, weight = stable_rank_after("spectral"), stable_rank_after("weight")
    clipped = stable_rank_after("none", clip=0.01)
    assert clipped < 1.1  # nearly all weights at the two bounds
    assert weight < 0.6 * spectral
    assert clipped < 0.5 * weight
