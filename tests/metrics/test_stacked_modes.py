"""M5: stacked digits, from the data to the count of modes, each channel classified by itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.data.dataset import open_dataset
from genctl.data.spec import parse_spec
from genctl.data.stacked import triples
from genctl.engine.fit import fit
from genctl.errors import DataError, UsageError
from genctl.metrics.features.per_channel import PerChannel
from genctl.metrics.measure import Evidence, Features, Predictions, Settings, Stacked, table
from genctl.randomness import RandomStream
from genctl.report.evaluate import evaluate


# --- the data -----------------------------------------------------------------------------------
def test_triples_are_pictures_of_the_set_and_their_labels():
    pictures = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 2, 3)
    labels = torch.arange(12) % 4
    found, kinds = triples(pictures, labels, 4, 30, RandomStream(0, "x"))
    assert found.shape == (30, 3, 2, 3)
    r, g, b = found[:, :, 0, 0].long().unbind(1)
    assert (kinds == 16 * labels[r] + 4 * labels[g] + labels[b]).all()
    for channel in (r, g, b):  # 30 = 2 rounds of 12 and 6 more
        counts = torch.bincount(channel, minlength=12)
        assert counts.min() >= 2
        assert counts.max() <= 3
    assert not (r == g).all()
    fewer, _ = triples(pictures, labels, 4, 7, RandomStream(0, "x"))
    assert (fewer == found[:7]).all()


def test_stacked_digits_as_a_data_set():
    data = open_dataset("stacked:digits")
    assert data.spec.shape == (3, 8, 8)
    assert (data.spec.classes, data.channel_classes, data.split) == (1000, 10, "train")
    assert len(data) == data.counts["train"] == 26_000
    assert len(torch.unique(data.labels)) == 1000
    base = {bytes(row.numpy().tobytes()) for row in open_dataset("digits@train").examples}
    held = {bytes(row.numpy().tobytes()) for row in open_dataset("digits@test").examples}
    channels = data.examples[:50].flatten(0, 1)[:, None]
    assert {bytes(row.numpy().tobytes()) for row in channels} <= base
    test = open_dataset("stacked:digits@test").examples[:50].flatten(0, 1)[:, None]
    assert {bytes(row.numpy().tobytes()) for row in test} <= held
    few = open_dataset("stacked:digits", limit=9)
    assert (few.examples == data.examples[:9]).all()
    assert few.fingerprint != data.fingerprint != open_dataset("digits").fingerprint


def test_the_spec_goes_anywhere_and_says_what_cannot_be_stacked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = parse_spec("stacked:mnist:root@test")
    assert (source.kind, source.split) == ("stacked", "test")
    assert source.anywhere() == f"stacked:mnist:{tmp_path}/root@test"
    assert parse_spec("stacked:digits").anywhere() == "stacked:digits"
    for spec in ("stacked:", "stacked:toy:ring", "stacked:stacked:digits"):
        with pytest.raises(UsageError, match="stack"):
            parse_spec(spec)
    colour, plain = tmp_path / "colour.npz", tmp_path / "plain.npz"
    np.savez(colour, images=np.zeros((30, 4, 4, 3), np.uint8), labels=np.zeros(30, int))
    np.savez(plain, images=np.zeros((30, 4, 4), np.uint8))
    with pytest.raises(DataError, match=r"\(3, 4, 4\)"):
        open_dataset(f"stacked:{colour}")
    with pytest.raises(DataError, match="no labels"):
        open_dataset(f"stacked:{plain}")


# --- the measure --------------------------------------------------------------------------------
def test_modes_and_divergence_by_hand():
    """Two labels, 8 modes: six samples of one, two of another; real triples beside."""
    seen = np.log(np.eye(8)[[5, 5, 5, 5, 5, 5, 2, 2]] + 1e-9)
    real = Predictions(np.array([0, 1, 2, 3]), np.array([0, 1, 2, 7]), "test")
    evidence = Evidence(Features(None, seen), stacked=Stacked(2, real))
    evidence.generated = Features(np.zeros((8, 1)), seen)
    entry = table()["modes"].take(evidence, Settings())
    assert (entry["covered"], entry["total"], entry["n"]) == (2, 8, 8)
    assert entry["counts"] == [0, 0, 2, 0, 0, 6, 0, 0]
    assert entry["kl"] == pytest.approx(0.75 * math.log(6) + 0.25 * math.log(2))
    assert (entry["real_covered"], entry["accuracy"]) == (4, 0.75)
    assert entry["real_kl"] == pytest.approx(math.log(2))
    assert "-n 26000" in evidence.warnings[0]


class EdgeClassifier:
    """Names a grey picture by its first pixel; stands for ``ClassifierFeatures``."""

    name = "edge"
    warning = ""
    channels = 1
    protocol = {"extractor": "edge", "classes": 3}  # noqa: RUF012

    def __call__(self, images):
        assert images.shape[1:] == (1, 2, 2)
        label = images[:, 0, 0, 0].long()
        return images.flatten(1).float(), torch.nn.functional.one_hot(label, 3) * 9.0


def test_every_channel_is_seen_by_itself_in_order():
    labels = torch.cartesian_prod(*(torch.arange(3),) * 3)
    images = labels.to(torch.uint8)[:, :, None, None].expand(-1, -1, 2, 2)
    features, logits = PerChannel(EdgeClassifier())(images)
    assert logits.argmax(1).tolist() == list(range(27))
    assert features.shape == (27, 12)
    product = torch.ones(27, 27)
    for channel, place in enumerate((9, 3, 1)):
        alone = EdgeClassifier()(images[:, channel : channel + 1])[1].softmax(1)
        product *= alone[:, torch.arange(27) // place % 3]
    torch.testing.assert_close(logits.softmax(1), product)
    with pytest.raises(DataError, match="1 channels"):
        PerChannel(EdgeClassifier())(images[:, :1])


# --- the command --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    settings = {
        "train.steps": 150,
        "train.batch_size": 64,
        "log.preview_every": 0,
        "model.network.width": 16,
    }
    out = tmp_path_factory.mktemp("runs") / "classifier"
    fit(load_config("classifier", settings), "digits", out, device="cpu")
    return out


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Three triples of held-out digits, over and over: a collapsed generator."""
    data = open_dataset("stacked:digits@test")
    images = data.examples[:3].repeat(200, 1, 1, 1).permute(0, 2, 3, 1).numpy()
    path = tmp_path_factory.mktemp("images") / "collapsed.npz"
    np.savez(path, images=images)
    return path


def run_json(capsys, *words):
    code = main(["evaluate", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_counts_triples(classifier, generated, capsys):
    words = (generated, "stacked:digits", "--modes", "--features", classifier)
    code, found = run_json(capsys, *words, "-n", 600, "--require", "modes.accuracy>=0.5")
    assert code == 0, found
    entry = found["metrics"]["modes"]
    assert (entry["covered"], entry["total"], entry["n"]) == (3, 1000, 600)
    assert entry["kl"] == pytest.approx(math.log(1000 / 3))
    assert entry["real_n"] == 600
    assert entry["real_covered"] > 150
    assert entry["real_kl"] < 2
    assert "each colour channel by itself" in found["protocol"]["extractor"]
    assert main(["evaluate", *map(str, words), "-n", "600"]) == 0
    assert "3 of 1000 covered" in capsys.readouterr().out


def test_a_stacked_set_covers_what_its_own_labels_do(classifier):
    """The real data as the generated side: about as many modes as real test triples show."""
    result = evaluate(
        "stacked:digits@train", "stacked:digits", ["modes"], n=1500, features=classifier
    )
    entry = result["metrics"]["modes"]
    assert entry["covered"] == pytest.approx(entry["real_covered"], rel=0.15)
    assert abs(entry["kl"] - entry["real_kl"]) < 0.3


def test_what_is_missing_is_said(classifier, generated, capsys):
    code, found = run_json(capsys, generated, "stacked:digits", "--modes")
    assert code == 2
    assert "--features RUN" in found["error"]["remedy"]
    code, found = run_json(capsys, generated, "digits", "--modes", "--features", classifier)
    assert code == 2
    assert "stacked:SPEC" in found["error"]["remedy"]


def test_a_generator_trains_on_stacked_digits(tmp_path):
    settings = {
        "train.steps": 1,
        "train.batch_size": 8,
        "log.preview_every": 0,
        "model.generator.width": 8,
        "model.discriminator.width": 8,
    }
    fit(load_config("quickstart", settings), "stacked:digits", tmp_path / "run", device="cpu")
    result = evaluate(tmp_path / "run", "stacked:digits", ["kid"], n=20, features="pixels")
    assert result["metrics"]["kid"]["mean"] > 0
