"""A17: labels beside latents and examples, and the command that asks for one."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.engine.fit import fit
from genctl.engine.run import open_run
from genctl.errors import ConfigError
from genctl.metrics.measure import (
    Evidence,
    Features,
    Predictions,
    Settings,
    UndefinedError,
    table,
)
from genctl.models.labels import Labels
from genctl.randomness import RandomStream
from genctl.types import DataSpec

SPEC = DataSpec("image", (2, 4, 4), classes=3)


def test_a_label_is_a_plane_beside_an_image_and_numbers_beside_a_latent():
    labels, y = Labels(SPEC), torch.tensor([2, 0, -1])
    assert (labels.given, labels.seen) == (3, (5, 4, 4))
    x = torch.randn(3, 2, 4, 4)
    seen = labels.beside_example(x, y)
    assert torch.equal(seen[:, :2], x)
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, 0]])  # −1 is no label
    assert torch.equal(seen[:, 2:], expected[:, :, None, None].expand(-1, -1, 4, 4))
    z = torch.randn(3, 6)
    assert torch.equal(labels.beside_latent(z, y), torch.cat([z, expected], 1))
    points = Labels(DataSpec("points", (2,), classes=3))
    assert torch.equal(points.beside_example(z[:, :2], y), torch.cat([z[:, :2], expected], 1))


def test_a_walk_keeps_whole_labels():
    """On the way between two latents of one class the sphere leaves the label's length behind."""
    labels = Labels(SPEC)
    z = torch.tensor([[0.5, -1.0, 0.0, 1.4, 0.0], [1.0, 0.0, 0.7, 0.0, 0.7]])
    expected = torch.tensor([[0.5, -1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.5, 0.0, 0.5]])
    assert torch.allclose(labels.upright(z), expected)


def test_labels_take_turns_from_the_first_row_on():
    labels = Labels(SPEC)
    assert labels.turn(4, RandomStream(0, first_row=1)).tolist() == [1, 2, 0, 1]
    drawn = labels.draw(3000, RandomStream(0, "draw"))
    assert torch.bincount(drawn, minlength=3).min() > 900


def test_data_without_labels_is_refused():
    with pytest.raises(ConfigError, match="no labels") as caught:
        Labels(DataSpec("image", (1, 8, 8)))
    assert "sub-folders" in caught.value.remedy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("conditional") / "run"
    fit(small("cgan", data__size=8, train__steps=3), "digits", place, device="cpu")
    return place


def test_a_class_is_asked_for_by_name_or_number(run, tmp_path, capsys):
    drawn = {}
    for word in ("3", "7"):
        out = tmp_path / f"{word}.npz"
        words = ["sample", str(run), "-n", "5", "--class", word, "--out", str(out), "--json"]
        assert main([*words, "--device", "cpu"]) == 0
        assert json.loads(capsys.readouterr().out)["class"] == word
        drawn[word] = np.load(out)["images"]
    opened = open_run(run, "cpu")
    y = torch.full((5,), 3)
    expected = opened.sample(5, condition=y)
    assert np.abs(drawn["3"] - (expected + 1).numpy().transpose(0, 2, 3, 1) * 127.5).max() < 1
    assert not np.array_equal(drawn["3"], drawn["7"])


def test_an_unknown_class_is_answered_with_the_known(run, capsys):
    assert main(["sample", str(run), "--class", "eleven", "--device", "cpu"]) == 2
    assert "0, 1, 2" in capsys.readouterr().err


def test_the_same_latent_under_another_label_is_another_picture(run):
    model = open_run(run, "cpu").model
    z = model.prior.sample(4, RandomStream(0))
    pictures = [model._generate(z, torch.full((4,), y)) for y in (0, 1)]
    assert not torch.allclose(*pictures)


def test_unlabelled_data_is_refused_before_anything_is_written(tmp_path, capsys):
    pictures, out = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    for i in range(30):
        Image.new("L", (8, 8), i).save(pictures / f"{i}.png")
    words = ["train", "--preset", "cgan", "--data", str(pictures), "--out", str(out), "--quiet"]
    assert main([*words, "--device", "cpu", "--set", "data.size=8"]) == 2
    text = capsys.readouterr().err
    assert "model.conditional" in text
    assert "no labels" in text
    assert not out.exists()


def test_agreement_counts_the_samples_that_show_their_label():
    """Of planted probabilities: two of four show what was asked; ties and unasked do not count."""
    shown = np.log(np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.5, 0.4]]))
    evidence = Evidence(generated=Features(None, shown), asked=np.array([0, 1, 2, 2]))
    entry = table()["agreement"].take(evidence, Settings())
    assert entry["value"] == 0.5
    assert entry["standard_error"] == pytest.approx(0.25)
    assert (entry["ceiling"], entry["ceiling_n"]) == (None, 0)
    real = Predictions(np.array([0, 1, 2, 0]), np.array([0, 1, 1, -1]), "test")
    entry = table()["agreement"].take(dataclasses.replace(evidence, ceiling=real), Settings())
    assert (entry["ceiling"], entry["ceiling_n"]) == (pytest.approx(2 / 3), 3)
    with pytest.raises(UndefinedError, match="classifier"):
        table()["agreement"].take(Evidence(asked=evidence.asked), Settings())


def test_the_command_asks_a_conditional_run_for_every_class(run, tmp_path, capsys):
    fit(small("classifier", train__steps=2), "digits", tmp_path / "classifier", device="cpu")
    words = ["evaluate", str(run), "--features", str(tmp_path / "classifier"), "-n", "40"]
    assert main([*words, "--agreement", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["agreement"]
    assert (found["n"], 0 <= found["value"] <= 1) == (40, True)
    assert found["ceiling"] is None
    with_real = [*words[:2], "digits", *words[2:]]
    assert main([*with_real, "--agreement", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["agreement"]["ceiling_n"] == 40
    assert 0 <= result["metrics"]["agreement"]["ceiling"] <= 1
    ceiling = result["protocol"]["settings"]["agreement"]["ceiling"]
    assert ceiling == "real examples of the test part"
    plain = tmp_path / "plain"
    fit(small("dcgan", data__size=8), "digits", plain, device="cpu")
    words[1] = str(plain)
    assert main([*words, "--agreement", "--device", "cpu"]) == 5
    assert "not conditional" in capsys.readouterr().err


def test_samples_go_through_the_classes_whatever_the_batch_size(run):
    opened = open_run(run)
    classes = torch.arange(25) % opened.spec.classes
    asked = opened.sample(25, seed=3, condition=classes)
    assert torch.equal(opened.sample(25, seed=3), asked)
    assert torch.allclose(opened.sample(25, seed=3, batch_size=7), asked, atol=1e-5)
    assert not torch.allclose(opened.sample(25, seed=3, condition=classes.flip(0)), asked)
