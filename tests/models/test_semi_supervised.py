"""A15: K logits that are also the logit of being real, few labels, and networks that are noisy."""

from __future__ import annotations

from itertools import cycle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genctl import registry
from genctl.contracts import capabilities
from genctl.errors import ConfigError, DataError
from genctl.models.classifier import Classifier
from genctl.models.labelled_examples import LabelledExamples
from genctl.models.semi_supervised import SemiSupervisedModel
from genctl.networks.layers.joined_noise import joined
from genctl.networks.layers.noise import drawing_layers, use_stream
from genctl.networks.semi_supervised import (
    NoisyMLPClassifier,
    SoftplusMLPGenerator,
    WeightNormLinear,
)
from genctl.objectives.adversarial import NonSaturating, Wasserstein
from genctl.objectives.classes import label_loss, real_logit
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec

SPEC = DataSpec("points", (3,), classes=3)
LOGITS = torch.tensor(
    [[0.3, -1.2, 2.0], [0.0, 0.0, 0.0], [-9.0, 4.0, 0.5], [-30.0, -31.0, -40.0]],
    dtype=torch.float64,
)
LABELS = torch.tensor([2, 0, 1, 1])


# --- the mathematics ----------------------------------------------------------------------------
def test_the_sum_of_classes_is_the_probability_of_being_real():
    """D = Z/(Z+1), so log D = log Z − softplus(log Z), and log(1 − D) = −softplus(log Z)."""
    z = LOGITS.exp().sum(1)
    d, log_z = z / (z + 1), real_logit(LOGITS)
    torch.testing.assert_close(-NonSaturating().real(log_z), d.log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_z - F.softplus(log_z), d.log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        NonSaturating().fake(log_z), torch.log(z + 1), rtol=1e-12, atol=1e-12
    )


def test_gradients_by_hand():
    """∂ log D/∂l_k = softmax_k (1 − D) and ∂ log(1 − D)/∂l_k = −softmax_k D."""
    logits = LOGITS.clone().requires_grad_(True)
    share, d = LOGITS.softmax(1), real_logit(LOGITS).sigmoid()[:, None]
    (real,) = torch.autograd.grad(-NonSaturating().real(real_logit(logits)).sum(), logits)
    torch.testing.assert_close(real, share * (1 - d), rtol=1e-10, atol=1e-15)
    (fake,) = torch.autograd.grad(-NonSaturating().fake(real_logit(logits)).sum(), logits)
    torch.testing.assert_close(fake, -share * d, rtol=1e-10, atol=1e-15)


def test_it_is_a_softmax_over_one_more_class_whose_logit_is_zero():
    """Section 5: p(K+1|x) = 1 − D, and p(y|x) = p(y|x, y ≤ K) D."""
    whole = F.log_softmax(torch.cat([LOGITS, torch.zeros(4, 1, dtype=torch.float64)], 1), 1)
    log_z = real_logit(LOGITS)
    torch.testing.assert_close(NonSaturating().fake(log_z), -whole[:, -1], rtol=1e-12, atol=1e-12)
    joint = label_loss(LOGITS, LABELS) + NonSaturating().real(log_z)
    expected = -whole.gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(joint, expected, rtol=1e-12, atol=1e-12)


# --- the model, with networks that can be worked by hand ----------------------------------------
class Scale(nn.Module):
    """Logits and features are the example times a weight."""

    def __init__(self, shape, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight, x * self.weight


class Shift(nn.Module):
    """An example is its latent and a shift."""

    def __init__(self, latent_dim, shape):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, z):
        return z + self.shift


class OneRank:
    """Stands in for the update: evaluates each loss once."""

    logging = True

    def __init__(self):
        self.rng, self.losses, self.metrics = RandomStream(0, "step"), {}, {}

    def __call__(self, player, loss_fn, batch=None):
        found = loss_fn(batch)
        self.losses[player], metrics = found if isinstance(found, tuple) else (found, {})
        self.metrics |= metrics
        return {f"loss/{player}": self.losses[player]}


def points(n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.arange(n) % 3


def batches(x, y, size=10):
    rows = cycle(range(len(x)))
    while True:
        index = torch.tensor([next(rows) for _ in range(size)])
        yield Batch(x[index], y=None if y is None else y[index], index=index)


def tiny(**keywords):
    model = SemiSupervisedModel(
        SPEC, latent_dim=3, labels=6, generator=Shift, classifier=Scale, **keywords
    )
    model.initialise(batches(*points()), RandomStream(0, "initialise"))
    return model


def step(model, batch):
    update = OneRank()
    model.training_step(iter([batch]), update)
    return update


def test_losses_by_hand():
    """Supervised, unlabelled and feature-matching terms from the same draws."""
    model, x = tiny(unlabelled_weight=0.5), points(seed=1)[0][:6]
    update = step(model, Batch(x))
    rng = RandomStream(0, "step")
    fakes = [2 * rng.uniform(6, 3) - 1 for _ in range(2)]
    z_real, z_fake = x.exp().sum(1), fakes[0].exp().sum(1)
    known, labels = model.labelled.x, model.labelled.y
    supervised = -known.log_softmax(1).gather(1, labels[:, None]).mean()
    unlabelled = -(z_real / (1 + z_real)).log().mean() + (1 + z_fake).log().mean()
    torch.testing.assert_close(update.losses["discriminator"], supervised + 0.5 * unlabelled)
    matching = (x.mean(0) - fakes[1].mean(0)).square().sum()
    torch.testing.assert_close(update.losses["generator"], matching)
    follows = step(tiny(feature_matching=False), Batch(x)).losses["generator"]
    torch.testing.assert_close(follows, F.softplus(-fakes[1].logsumexp(1)).mean())


def test_each_player_moves_the_right_way():
    model, (x, _) = tiny(), points(seed=1)
    update = step(model, Batch(x + 2.0))
    (towards,) = torch.autograd.grad(update.losses["generator"], model.generator.shift)
    assert (towards < 0).all(), "descent shifts the generated examples up, to the data"
    model = tiny()
    good = Batch(torch.full((9, 3), 3.0))  # real examples are large, generated ones are not
    (weight,) = torch.autograd.grad(
        step(model, good).losses["discriminator"], model.classifier.weight
    )
    model.labelled.x.mul_(-1.0)
    (worse,) = torch.autograd.grad(
        step(model, good).losses["discriminator"], model.classifier.weight
    )
    assert weight != worse, "the labelled examples are learned from"


def test_hidden_labels_are_never_looked_at():
    model, (x, y) = tiny(), points(seed=1)
    shown, hidden = step(model, Batch(x, y=y)), step(model, Batch(x))
    for player in ("discriminator", "generator"):
        assert torch.equal(shown.losses[player], hidden.losses[player])


# --- the labelled examples ----------------------------------------------------------------------
def test_labelled_examples_are_balanced_and_do_not_depend_on_the_batch():
    x, y = points(60)
    chosen = []
    for size in (7, 10, 60):
        few = LabelledExamples(SPEC, 8)
        few.choose(batches(x, y, size))
        assert torch.bincount(few.y).tolist() == [3, 3, 2]
        assert torch.equal(few.x, x[few.index])
        assert torch.equal(few.y, y[few.index])
        assert len(set(few.index.tolist())) == 8
        chosen.append(few.index)
    assert all(torch.equal(chosen[0], other) for other in chosen[1:])


def test_a_global_batch_holds_each_labelled_example_equally_often():
    few = LabelledExamples(SPEC, 6)
    few.choose(batches(*points()))
    x, y = few.draw(12, RandomStream(0, "step", 1))
    assert torch.equal(x.sort(0).values, torch.cat([few.x, few.x]).sort(0).values)
    halves = [few.draw(6, RandomStream(0, "step", 1, rank=rank)) for rank in (0, 1)]
    assert torch.equal(torch.cat([half[0] for half in halves]), x)
    assert torch.equal(torch.cat([half[1] for half in halves]), y)
    assert not torch.equal(few.draw(12, RandomStream(0, "step", 2))[0], x)


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(ConfigError, match="cannot show all of 3 classes"):
        LabelledExamples(SPEC, 2)
    with pytest.raises(DataError, match="no labels"):
        LabelledExamples(DataSpec("points", (3,)), 6)
    x, y = points(12)
    y[y == 1] = -1
    y[1] = 1
    with pytest.raises(DataError, match="has 1 labelled examples") as raised:
        LabelledExamples(SPEC, 6).choose(batches(x, y))
    assert (raised.value.thing, raised.value.remedy) == (
        "class 1 of the data",
        "--set model.labels=3",
    )


def test_an_objective_of_critics_is_refused():
    with pytest.raises(ConfigError, match="logit") as raised:
        tiny(objective=Wasserstein)
    assert raised.value.remedy == "--set model.objective=non-saturating"


def test_the_baseline_learns_from_the_chosen_examples_alone():
    model = Classifier(SPEC, network=Scale, labels=6)
    model.initialise(batches(*points()), RandomStream(0, "initialise"))
    x, y = points(12, seed=5)
    update = step(model, Batch(x, y=(y + 1) % 3))
    expected = F.cross_entropy(model.labelled.x, model.labelled.y)
    torch.testing.assert_close(update.losses["classifier"], expected)


# --- the paper's networks -----------------------------------------------------------------------
def test_weight_norm_against_torch():
    torch.manual_seed(0)
    layer = WeightNormLinear(5, 3, learn_scale=True).double()
    other = nn.utils.parametrizations.weight_norm(nn.Linear(5, 3).double())
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.normal_()
        other.bias.copy_(layer.bias)
        other.parametrizations.weight.original0.copy_(layer.scale[:, None])
        other.parametrizations.weight.original1.copy_(layer.direction)
    x = torch.randn(7, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), other(x))
    (layer(x).square().sum() + other(x).square().sum()).backward()
    torch.testing.assert_close(layer.direction.grad, other.parametrizations.weight.original1.grad)
    along = (layer.direction.grad * layer.direction).sum(1)
    torch.testing.assert_close(along, torch.zeros(3, dtype=torch.float64))


def test_the_network_starts_with_outputs_of_variance_one():
    torch.manual_seed(0)
    network = NoisyMLPClassifier((1, 4, 4), 3, width=16, noise=0.0, input_noise=0.0)
    assert [layer.direction.shape[0] for layer in network.hidden] == [16, 8, 4, 4, 4]
    x = torch.rand(200, 1, 4, 4) * 2 - 1
    with torch.no_grad():
        network.initialise(x, RandomStream(0, "start"))
        logits = network(x)[1]
    torch.testing.assert_close(logits.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.var(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_noise_is_drawn_in_training_only_and_from_the_stream():
    torch.manual_seed(0)
    network = NoisyMLPClassifier((1, 4, 4), 3, width=8)
    x = torch.rand(6, 1, 4, 4)
    draws = []
    for seed in (0, 0, 1):
        use_stream(drawing_layers(network), RandomStream(seed, "noise"))
        draws.append(network(x)[1])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    network.eval()
    assert torch.equal(network(x)[1], network(x)[1])


def test_joined_batches_have_the_noise_that_two_ranks_would_give_them():
    """Rows of a rank are rows of each joined batch, not of the batch they were joined into."""
    torch.manual_seed(0)
    network = NoisyMLPClassifier((1, 4, 4), 3, width=8).double()
    parts = torch.rand(3, 6, 1, 4, 4, dtype=torch.float64)

    def logits(rank, rows):
        layers = drawing_layers(network)
        use_stream(layers, RandomStream(0, "noise", rank=rank))
        before = [layer.stream for layer in layers]
        with joined(layers, 3):
            found = network(parts[:, rows].flatten(0, 1))[1].unflatten(0, (3, -1))
        assert all(layer.stream is old for layer, old in zip(layers, before, strict=True))
        return found

    whole = logits(0, slice(6))
    halves = torch.cat([logits(0, slice(3)), logits(1, slice(3, 6))], 1)
    torch.testing.assert_close(halves, whole)


def test_the_papers_sizes():
    spec = DataSpec("image", (1, 28, 28), classes=10)
    network = NoisyMLPClassifier(spec.shape, spec.classes)
    sizes = [layer.direction.shape[0] for layer in network.hidden]
    assert sizes == [1000, 500, 250, 250, 250]
    assert [noise.std for noise in network.noise] == [0.3, 0.5, 0.5, 0.5, 0.5, 0.5]
    generator = SoftplusMLPGenerator(100, spec.shape)
    linear = [m for m in generator.modules() if isinstance(m, nn.Linear | WeightNormLinear)]
    shapes = [getattr(m, "weight", getattr(m, "direction", None)).shape for m in linear]
    assert shapes == [(500, 100), (500, 500), (784, 500)]


def test_capabilities():
    model = registry.get("model", "semi-supervised").build
    assert capabilities(model) == [
        "sample",
        "interpolate",
        "classify",
        "discriminator_features",
        "discriminator_score",
    ]
