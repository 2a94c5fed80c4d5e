from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from genctl import registry
from genctl.contracts import capabilities
from genctl.errors import DataError
from genctl.models.classifier import Classifier
from genctl.networks.classifiers import ConvClassifier
from genctl.types import Batch, DataSpec

SPEC = DataSpec("image", (1, 8, 8), classes=10)


def build(spec=SPEC, **keywords):
    node, problems = registry.resolve("model", {"kind": "classifier", **keywords}, "model")
    assert not problems
    return registry.factory("model", node)(spec)


class OneUpdate:
    """Evaluates the loss once, and keeps what came."""

    def __call__(self, player, loss_fn, batch=None):
        self.player = player
        self.loss, self.metrics = loss_fn(batch)
        return {f"loss/{player}": self.loss.detach(), **self.metrics}


class Fixed(nn.Module):
    """Logits that are the first pixels."""

    def __init__(self, shape, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        flat = x.flatten(1)
        return flat, flat[:, : self.classes]


def step(model, batch):
    update = OneUpdate()
    model.training_step(iter([batch]), update)
    return update


def test_loss_and_accuracy_by_hand():
    model = Classifier(DataSpec("image", (1, 1, 2), classes=2), network=Fixed)
    x = torch.tensor([[0.5, -0.5], [0.0, 1.0], [1.0, 0.0]]).view(3, 1, 1, 2)
    update = step(model, Batch(x, y=torch.tensor([0, 0, 0])))
    expected = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(1)), math.log(1 + math.exp(-1))]
    assert float(update.loss) == pytest.approx(sum(expected) / 3, rel=1e-6)
    assert float(update.metrics["accuracy"]) == pytest.approx(2 / 3)
    assert update.player == "classifier"


def test_examples_without_a_label_take_no_part():
    model = Classifier(DataSpec("image", (1, 1, 2), classes=2), network=Fixed)
    x = torch.tensor([[0.5, -0.5], [9.0, 9.0]]).view(2, 1, 1, 2)
    update = step(model, Batch(x, y=torch.tensor([0, -1])))
    assert float(update.loss) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert float(update.metrics["accuracy"]) == 1.0
    nothing = step(model, Batch(x, y=torch.tensor([-1, -1])))
    assert float(nothing.loss) == 0.0


def test_label_smoothing_by_hand():
    """(1 − ε) of the label's loss and ε of the mean over the classes."""
    model = Classifier(DataSpec("image", (1, 1, 2), classes=2), network=Fixed, label_smoothing=0.2)
    logits, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    found = float(model.cross_entropy(logits, labels))
    assert found == pytest.approx(0.8 * right + 0.2 * (right + wrong) / 2, rel=1e-6)


@pytest.mark.parametrize(("classes", "found"), [(0, "no labels"), (1, "one class only")])
def test_data_without_labels_is_refused_before_training(classes, found):
    with pytest.raises(DataError, match=found) as raised:
        build(DataSpec("image", (1, 8, 8), classes=classes))
    assert "labels" in raised.value.remedy
    assert raised.value.exit_code == 4


def test_capabilities_and_shapes():
    model = build()
    assert capabilities(model) == ["classify", "features"]
    x = torch.zeros(3, 1, 8, 8)
    assert model.classify(x).shape == (3, 10)
    assert model.features(x).shape == (3, 128)


@pytest.mark.parametrize("size", [8, 12, 20, 28, 32, 36, 64, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_multiple_of_four_from_eight_up(size, channels):
    network = ConvClassifier((channels, size, size), 5, width=4, features=6)
    features, logits = network(torch.randn(2, channels, size, size))
    assert features.shape == (2, 6)
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 30, 30), (2,), (1, 8, 10)])
def test_other_sizes_are_refused_in_words(shape):
    with pytest.raises(DataError, match="multiple of 4"):
        ConvClassifier(shape, 5)


def test_features_of_an_example_do_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    network = ConvClassifier((1, 28, 28), 10, width=8).double()
    x = torch.randn(5, 1, 28, 28, dtype=torch.float64)
    together, alone = network(x)[0], torch.cat([network(row)[0] for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_learns_the_digits(device):
    """Five passes over 1,500 real 8×8 digits name nine in ten of 297 others."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.from_numpy(data.images).float()[:, None].to(device) / 8.0 - 1.0
    y = torch.from_numpy(data.target).long().to(device)
    torch.manual_seed(0)
    model = build().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for i in range(60):
        rows = torch.arange(i * 128, (i + 1) * 128) % 1500
        update = step(model, Batch(x[rows], y=y[rows]))
        optimiser.zero_grad()
        update.loss.backward()
        optimiser.step()
    with torch.no_grad():
        accuracy = (model.classify(x[1500:]).argmax(1) == y[1500:]).float().mean()
    assert float(accuracy) > 0.9
