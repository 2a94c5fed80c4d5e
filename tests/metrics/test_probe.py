"""Linear probes and fine-tuning, on features that were planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from genctl.metrics import linear_probe
from genctl.metrics.fine_tuning import fine_tuned_error, last_layer
from genctl.metrics.linear_probe import STRENGTHS, draw_labels, probe_errors
from genctl.metrics.measure import UndefinedError
from genctl.metrics.of_model import ProbeErrors
from genctl.metrics.probe import summary
from genctl.randomness import RandomStream

LABELS = np.random.default_rng(0).integers(0, 5, 600)


def test_a_draw_has_as_many_of_each_class_and_keeps_a_fifth_of_each_to_validate() -> None:
    draw = draw_labels(LABELS, 52, seed=0, draw=0)
    assert len(np.unique(draw.all)) == 52
    counts = np.bincount(LABELS[draw.all])
    assert sorted(counts) == [10, 10, 10, 11, 11]
    assert np.bincount(LABELS[draw.validate]).tolist() == [2] * 5
    same, other = (draw_labels(LABELS, 52, seed=0, draw=k).all for k in (0, 1))
    assert np.array_equal(same, draw.all)
    assert not np.array_equal(np.sort(other), np.sort(draw.all))


def test_examples_without_a_label_are_never_drawn() -> None:
    labels = np.where(np.arange(600) < 300, LABELS, -1)
    assert draw_labels(labels, 100, 0, 0).all.max() < 300


@pytest.mark.parametrize(
    ("labels", "n", "says"),
    [
        (LABELS, 9, "fewer than two"),
        (LABELS, 5000, "ask 1000"),
        (np.zeros(50, int), 10, "no labels"),
    ],
)
def test_what_cannot_be_drawn_is_said(labels, n, says) -> None:
    with pytest.raises(UndefinedError, match=says):
        draw_labels(labels, n, 0, 0)


def test_features_that_name_the_class_have_no_error_and_noise_is_chance() -> None:
    rng = np.random.default_rng(1)
    test_labels = rng.integers(0, 5, 500)
    draw = draw_labels(LABELS, 50, 0, 0)
    for signal, low, high in ((4.0, 0.0, 0.02), (0.0, 0.72, 0.88)):
        named = [
            signal * np.eye(5)[y] + 0.1 * rng.standard_normal((len(y), 5))
            for y in (LABELS, test_labels)
        ]
        errors = probe_errors(named[0], LABELS, draw, named[1], test_labels)
        assert set(errors) == {"logistic", "svm"}
        assert all(low <= error <= high for error in errors.values()), (signal, errors)


def test_many_features_are_fitted_as_without_the_short_cut(monkeypatch) -> None:
    rng = np.random.default_rng(2)
    x = 0.3 * np.eye(5)[LABELS] @ rng.standard_normal((5, 90)) + rng.standard_normal((600, 90))
    draw = draw_labels(LABELS, 40, 0, 0)
    monkeypatch.setattr(linear_probe, "STRENGTHS", (1.0,))
    found = probe_errors(x, LABELS, draw, x, LABELS)["logistic"]
    known = x[draw.all] - x[draw.all].mean(0)
    length = np.sqrt((known**2).sum(1).mean())
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(known / length, LABELS[draw.all])
    guess = fitted.predict((x - x[draw.all].mean(0)) / length)
    assert found == pytest.approx((guess != LABELS).mean(), abs=0.004)
    assert 0.05 < found < 0.7


def test_the_strength_is_chosen_without_the_test_examples(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    x = np.eye(5)[LABELS] + 0.6 * rng.standard_normal((600, 5))
    draw = draw_labels(LABELS, 50, 0, 0)
    chosen = []
    original = linear_probe._chosen

    def watched(make, features, labels, cut):
        model = original(make, features, labels, cut)
        chosen.append((model.C, len(features), cut))
        return model

    monkeypatch.setattr(linear_probe, "_chosen", watched)
    for test in (x, rng.standard_normal((600, 5))):
        probe_errors(x, LABELS, draw, test, LABELS)
    assert chosen[:2] == chosen[2:]
    assert all(c in STRENGTHS and n == 50 and cut == 40 for c, n, cut in chosen)


# --- fine-tuning ---------------------------------------------------------------------------------
class Trunk(nn.Module):
    """Two layers and a norm; what comes after the features does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 1)  # defined first, used last
        self.first, self.second, self.norm = nn.Linear(4, 8), nn.Linear(8, 6), nn.LayerNorm(6)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.norm(self.second(torch.relu(self.first(x))))
        self.score(seen)
        return seen


def test_the_last_layer_is_the_last_one_that_the_features_pass() -> None:
    trunk = Trunk().requires_grad_(False)
    found = last_layer(trunk, trunk.features, torch.randn(2, 4))
    expected = [*trunk.second.parameters(), *trunk.norm.parameters()]
    assert {id(p) for p in found} == {id(p) for p in expected}
    assert not any(p.requires_grad for p in trunk.parameters())
    assert last_layer(trunk, lambda x: trunk.features(x).detach(), torch.randn(2, 4)) == []


def test_fine_tuning_learns_what_the_features_have_lost_and_puts_the_layer_back() -> None:
    blind = nn.Sequential(nn.Linear(8, 4, bias=False), nn.Tanh()).requires_grad_(False)
    with torch.no_grad():
        # Nearly the same sum in all features, which says next to nothing of the class.
        blind[0].weight.copy_(1 + 0.1 * RandomStream(0, "blind").normal(4, 8)).div_(3)
    rng = np.random.default_rng(4)
    x = 3 * rng.standard_normal((440, 8)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    before = blind[0].weight.clone()
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    layer = last_layer(blind, blind, tensors[0][:2])
    labelled, test = ([t[rows] for t in tensors] for rows in (slice(200), slice(200, None)))
    words = (blind, layer, tuple(labelled), 40, tuple(test))
    errors = [fine_tuned_error(*words, RandomStream(0, "tune"), rate=1e-2) for _ in range(2)]
    assert errors[0] == errors[1]
    assert torch.equal(blind[0].weight, before)
    assert not blind[0].weight.requires_grad
    with torch.no_grad():
        seen = [blind(t).numpy() for t in (labelled[0], test[0])]
    draw = draw_labels(labelled[1].numpy(), 100, 0, 0)
    frozen = probe_errors(seen[0], labelled[1].numpy(), draw, seen[1], test[1].numpy())
    assert frozen["logistic"] > 0.3
    assert errors[0] < 0.1


# --- the entry -----------------------------------------------------------------------------------
def test_the_value_is_the_probe_with_the_most_labels() -> None:
    errors = {
        ("model", "logistic", 100): [0.2, 0.4],
        ("model", "logistic", 1000): [0.1, 0.2],
        ("model", "svm", 1000): [0.01, 0.01],
        ("pixels", "logistic", 1000): [0.3, 0.3],
    }
    entry = summary(ProbeErrors(errors, "discriminator", 50))
    assert entry["value"] == pytest.approx(0.15)
    assert (entry["pixels"], entry["untrained"], entry["labels"]) == (
        pytest.approx(0.3),
        None,
        1000,
    )
    assert entry["rows"][0]["std"] == pytest.approx(np.sqrt(0.02))
    with pytest.raises(UndefinedError, match="too few"):
        summary(ProbeErrors({}, reason="too few"))
