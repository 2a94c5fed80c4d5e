"""Maximum-likelihood models: the loss they minimise, and who can do what."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from genctl.config.load import load_config
from genctl.contracts import capabilities
from genctl.data.ranges import from_levels
from genctl.errors import ConfigError
from genctl.models.maximum_likelihood import AutoregressiveModel, MaximumLikelihoodModel
from genctl.models.normalizing_flow import NormalizingFlowModel
from genctl.randomness import RandomStream
from genctl.registry import factory, resolve
from genctl.types import Batch, DataSpec

BINARY = DataSpec("image", (1, 4, 4), levels=2)
GREY = DataSpec("image", (1, 4, 4))
POINTS = DataSpec("points", (2,))


def model(kind: str, density: dict, spec: DataSpec) -> MaximumLikelihoodModel:
    node, problems = resolve("model", {"kind": kind, "density": density}, "model")
    assert problems == []
    torch.manual_seed(0)
    return factory("model", node)(spec)


def pixelcnn(kind: str = "autoregressive", spec: DataSpec = BINARY) -> MaximumLikelihoodModel:
    return model(kind, {"kind": "pixelcnn", "width": 4, "depth": 1}, spec)


def realnvp(kind: str = "normalizing-flow", spec: DataSpec = GREY) -> MaximumLikelihoodModel:
    return model(kind, {"kind": "realnvp", "width": 4, "depth": 1, "couplings": 2}, spec)


class PlainUpdate:
    """The least an update must do: gradients of one player, one step."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.rng = RandomStream(0, "train")
        self.optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        self.calls: list[str] = []
        self.losses: list[float] = []

    def __call__(self, player, loss_fn, batch=None):
        self.calls.append(player)
        loss, metrics = loss_fn(batch)
        self.losses.append(float(loss.detach()))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {f"loss/{player}": loss.detach()} | {k: v.detach() for k, v in metrics.items()}


def stripes(n: int, levels: int) -> Iterator[Batch]:
    """Images of one value in each row, an easy regularity to learn."""
    torch.manual_seed(1)
    while True:
        k = torch.randint(levels, (n, 1, 4, 1)).expand(n, 1, 4, 4)
        yield Batch(from_levels(k, levels))


def test_capabilities_follow_the_kind():
    assert capabilities(MaximumLikelihoodModel) == ["sample", "log_likelihood"]
    assert capabilities(AutoregressiveModel) == ["sample", "log_likelihood", "complete"]
    flow = capabilities(NormalizingFlowModel)
    assert flow == ["sample", "interpolate", "encode", "log_likelihood"]


def test_a_density_without_the_capability_is_refused():
    with pytest.raises(ConfigError, match="autoregressive"):
        realnvp("autoregressive")
    with pytest.raises(ConfigError, match="flow"):
        pixelcnn("normalizing-flow")
    assert capabilities(realnvp("maximum-likelihood")) == ["sample", "log_likelihood"]


def test_loss_is_the_mean_of_nats_per_example():
    net = pixelcnn()
    batch = next(stripes(8, 2))
    loss, metrics = net.loss(batch, RandomStream(0, "train"))
    found = net.log_likelihood(batch, RandomStream(0, "any"))
    assert found.kind == "exact"
    assert found.values.shape == (8,)
    torch.testing.assert_close(loss, -found.values.mean())
    torch.testing.assert_close(metrics["bits_per_dim"], loss / (16 * math.log(2)))


@pytest.mark.parametrize(
    ("build", "spec", "kind"),
    [(pixelcnn, BINARY, "exact"), (realnvp, GREY, "lower_bound"), (realnvp, POINTS, "exact")],
)
def test_training_lowers_the_loss(build, spec, kind):
    net = build(spec=spec)
    if spec.kind == "points":
        torch.manual_seed(1)  # two modes: normalising alone does not do it
        signs = [torch.randint(2, (64, 1)) * 4 - 2 for _ in range(61)]
        batches = iter([Batch(sign + 0.2 * torch.randn(64, 2)) for sign in signs])
    else:
        batches = stripes(32, spec.levels)
    net.initialise(batches, RandomStream(0, "initialise"))
    update = PlainUpdate(net)
    for _ in range(60):
        assert net.training_step(batches, update) == {}  # the update has recorded everything
    losses = update.losses
    assert update.calls == ["density"] * 60
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5
    if spec is BINARY:  # four free bits, the rest follows from the left neighbour
        assert losses[-1] < 16 * math.log(2) / 2
    net.eval()
    batch = Batch(net.sample(5, RandomStream(0, "sample")))
    assert batch.x.shape == (5, *spec.shape)
    assert net.log_likelihood(batch, RandomStream(0, "any")).kind == kind


def test_every_parameter_belongs_to_the_player():
    for net in (pixelcnn(), realnvp()):
        trained = {
            id(p) for name in net.players["density"] for p in getattr(net, name).parameters()
        }
        assert {id(p) for p in net.parameters()} == trained


def test_flow_latents():
    net = realnvp(spec=POINTS).eval()
    z = net.sample_latent(6, RandomStream(0, "latent"))
    assert z.shape == (6, 2)
    torch.testing.assert_close(net.encode(net.decode(z)), z, rtol=1e-4, atol=1e-5)
    assert net.prior.geometry == "sphere"


def test_reduced_precision_does_not_reach_samples_or_likelihoods():
    net = pixelcnn().eval()
    batch = next(stripes(8, 2))
    plain = net.log_likelihood(batch, RandomStream(0, "any")).values
    drawn = net.sample(8, RandomStream(0, "sample"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net.log_likelihood(batch, RandomStream(0, "any")).values, plain)
        assert torch.equal(net.sample(8, RandomStream(0, "sample")), drawn)


PRESETS = ["pixelcnn", "pixelcnn-mnist", "realnvp", "realnvp-moons", "realnvp-mnist"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name):
    config = load_config(name, ["model.density.width=4", "model.density.depth=1"])
    images = DataSpec("image", (1, 8, 8), levels=2 if config.data.binarise != "none" else 256)
    net = factory("model", config.model)(POINTS if name == "realnvp-moons" else images)
    assert set(config.optim) == set(net.players)
