"""Features of real examples are computed once, and never taken for those of anything else."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.data import cache, cached_arrays
from genctl.engine import fit as engine
from genctl.report import kept
from genctl.report.evaluate import evaluate
from genctl.report.scores import fit
from genctl.report.sides import Examples

TINY = {
    "train.steps": 2,
    "train.batch_size": 8,
    "log.preview_every": 0,
    "train.precision": "fp32",
    "model.network.width": 8,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Two runs of one network that differ in their weights alone."""
    found = []
    for steps in (1, 2):
        out = tmp_path_factory.mktemp("classifiers") / "run"
        config = load_config("classifier", {**TINY, "train.steps": steps})
        engine.fit(config, "digits", out, device="cpu")
        found.append(str(out))
    return found


@pytest.fixture
def pictures(tmp_path):
    """Two folders of random pictures."""
    rng = np.random.default_rng(0)
    for folder, n in (("a", 40), ("b", 30)):
        (tmp_path / folder).mkdir()
        for i in range(n):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i:02d}.png")
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def computed(monkeypatch):
    """The names of the sides of real examples whose features are computed."""
    seen = []
    compute = kept.features_of

    def counted(extractor, side, batch_size, **more):
        if isinstance(side, Examples):
            seen.append(side.name)
        return compute(extractor, side, batch_size, **more)

    monkeypatch.setattr(kept, "features_of", counted)
    return seen


def measured(a, b, classifier, **more):
    """Everything that the features are good for, and how the real side was called."""
    options = {"features": classifier, "device": "cpu", "is_splits": 2, "n": 40, **more}
    return evaluate(a, b, ["fid", "kid", "is"], **options)["metrics"]


def entries():
    return [e["key"] for e in cache.cache_info()["entries"] if e["key"].startswith("features-")]


def test_the_second_evaluation_reuses_them_to_the_last_digit(pictures, classifiers, computed):
    a, b = pictures
    first = measured(a, b, classifiers[0])
    assert computed.count(str(b)) == 1
    assert measured(a, b, classifiers[0]) == first
    assert computed.count(str(b)) == 1
    assert len(entries()) == 1
    cache.clear_cache()
    assert measured(a, b, classifiers[0]) == first
    assert computed.count(str(b)) == 2


def test_the_place_of_the_data_does_not_matter(pictures, classifiers, computed, tmp_path):
    a, b = pictures
    measured(a, b, classifiers[0])
    shutil.copytree(b, tmp_path / "moved")
    measured(a, tmp_path / "moved", classifiers[0])
    assert computed.count(str(tmp_path / "moved")) == 0


def _one_pixel(b, monkeypatch):
    path = b / "07.png"
    pixels = np.array(Image.open(path))
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(path)


def _another_order(b, monkeypatch):
    (b / "00.png").rename(b / "zz.png")


def _another_torch(b, monkeypatch):
    monkeypatch.setattr(kept.metadata, "version", lambda name: "0.0")


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (_one_pixel, {}),
        (_another_order, {}),
        (_another_torch, {}),
        (None, {"precision": "bf16"}),
        (None, {"features": 1}),
        (None, {"batch_size": 7}),
        (None, {"n": 20}),
    ],
    ids=["pixel", "order", "torch", "precision", "weights", "batch", "n"],
)
def test_another_identity_is_computed_anew(
    change, more, pictures, classifiers, computed, monkeypatch
):
    a, b = pictures
    measured(a, b, classifiers[0])
    if change is not None:
        change(b, monkeypatch)
    if "features" in more:
        more = {"features": classifiers[more["features"]]}
    found = measured(a, b, classifiers[0], **more)
    assert computed.count(str(b)) == 2
    assert len(entries()) == 2
    cache.clear_cache()
    assert measured(a, b, classifiers[0], **more) == found, "and right"


def test_another_seed_draws_other_rows(pictures, classifiers, computed):
    a, b = pictures
    measured(a, b, classifiers[0], n=20)
    measured(a, b, classifiers[0], n=20, seed=1)
    assert computed.count(str(b)) == 2


def test_a_damaged_entry_is_removed_and_computed_anew(pictures, classifiers, computed):
    a, b = pictures
    first = measured(a, b, classifiers[0])
    (key,) = entries()
    path = cache.cache_folder() / key / "features.npy"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    assert measured(a, b, classifiers[0]) == first
    assert computed.count(str(b)) == 2
    (cache.cache_folder() / key / "index.json").write_text("{")
    assert measured(a, b, classifiers[0]) == first
    assert computed.count(str(b)) == 3
    assert measured(a, b, classifiers[0]) == first
    assert computed.count(str(b)) == 3, "it was written again"


def test_an_entry_of_other_facts_is_not_believed():
    arrays = {"features": np.arange(6.0).reshape(2, 3)}
    assert cached_arrays.store("features-x", arrays, {"content": "a"})
    assert cached_arrays.load("features-x", {"content": "b"}) is None
    found = cached_arrays.load("features-x", {"content": "a"})
    assert np.array_equal(found["features"], arrays["features"])
    index = cache.cache_folder() / "features-x" / "index.json"
    node = json.loads(index.read_text())
    node["checksums"] = {"../features-x/features": node["checksums"]["features"]}
    index.write_text(json.dumps(node))
    assert cached_arrays.load("features-x", {"content": "a"}) is None


def test_without_a_cache_everything_is_computed(pictures, classifiers, computed, monkeypatch):
    monkeypatch.setenv("GENCTL_CACHE_GIB", "0")
    a, b = pictures
    assert measured(a, b, classifiers[0]) == measured(a, b, classifiers[0])
    assert computed.count(str(b)) == 2
    assert entries() == []


def test_scores_while_training_see_the_real_side_once(tmp_path, computed):
    config = small(
        "quickstart",
        train__steps=6,
        evaluate__every=2,
        evaluate__measures=["fid"],
        evaluate__features="pixels",
        evaluate__n=40,
    )
    fit(config, None, tmp_path / "run", device="cpu")
    assert len((tmp_path / "run/metrics.jsonl").read_text().split("evaluate/fd")) == 4
    assert len(computed) == 1


# --- genctl data cache --statistics -------------------------------------------------------------
def run_json(capsys, *words):
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_statistics_kept_beforehand_are_found_by_evaluate(pictures, classifiers, computed, capsys):
    a, b = pictures
    fresh = measured(a, b, classifiers[0])
    cache.clear_cache()
    computed.clear()
    words = ["data", "cache", b, "--statistics", "--features", classifiers[0], "-n", 40]
    code, found = run_json(capsys, *words, "--device", "cpu")
    assert code == 0
    assert (found["n"], found["dimensions"], found["reused"]) == (30, found["dimensions"], False)
    assert found["key"] in entries()
    assert found["identity"]["protocol"]["extractor_hash"]
    assert run_json(capsys, *words, "--device", "cpu")[1]["reused"] is True
    assert len(computed) == 1
    assert measured(a, b, classifiers[0]) == fresh
    assert computed.count(str(b)) == 1


def test_statistics_of_pixels_at_the_size_of_a_run(pictures, tmp_path, computed, capsys):
    """Cheap features are kept when asked for; a run of another size is compared at its own."""
    run = tmp_path / "run"
    config = small("quickstart", evaluate__measures=[])
    engine.fit(config, "digits", run, device="cpu")
    rng = np.random.default_rng(1)
    (tmp_path / "large").mkdir()
    for i in range(12):
        pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "large" / f"{i}.png")
    words = ["data", "cache", tmp_path / "large", "--statistics", "--features", "pixels"]
    assert run_json(capsys, *words, "--size", 8, "--device", "cpu")[0] == 0
    computed.clear()
    evaluate(run, tmp_path / "large", ["fid"], features="pixels", n=12, device="cpu")
    assert computed == []


def test_the_standard_network(pictures, inception_weights, computed, capsys):
    a, b = pictures
    for path in [*sorted(a.iterdir())[3:], *sorted(b.iterdir())[3:]]:
        path.unlink()
    words = ["data", "cache", b, "--statistics", "--inception-weights", inception_weights]
    code, found = run_json(capsys, *words, "--device", "cpu")
    assert (code, found["features"], found["dimensions"]) == (0, "inception", 2048)
    result = evaluate(a, b, ["fid"], inception_weights=inception_weights, device="cpu")
    assert result["metrics"]["fid"]["value"] > 0
    assert computed.count(str(b)) == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--statistics"], 2, "no data set"),
        (["digits", "--features", "pixels"], 2, "add --statistics"),
        (["digits", "--statistics", "--features", "nobody"], 2, "nobody"),
        (["digits", "--statistics", "--precision", "fp16"], 2, "fp16"),
        (["digits", "--statistics", "--features", "pixels", "--size", "huge"], 2, "--size"),
        (["digits", "--statistics"], 5, "Inception"),
        (["/no/such", "--statistics", "--features", "pixels"], 4, "/no/such"),
    ],
)
def test_mistakes(words, code, text, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GENCTL_INCEPTION_WEIGHTS", str(tmp_path / "none.pth"))
    assert main(["data", "cache", *words]) == code
    assert text in capsys.readouterr().err


def test_no_room_is_said(monkeypatch, capsys):
    monkeypatch.setenv("GENCTL_CACHE_GIB", "0")
    words = ["data", "cache", "digits", "--statistics", "--features", "pixels", "-n", "9"]
    assert main([*words, "--device", "cpu", "--quiet"]) == 1
    assert "GENCTL_CACHE_GIB" in capsys.readouterr().err
