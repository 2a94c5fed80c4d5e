"""M7: planted copies are found and an honest split is not accused; every number as defined."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from genctl.cli.main import main
from genctl.config.load import load_config
from genctl.data.dataset import open_dataset
from genctl.engine.fit import fit
from genctl.errors import UsageError
from genctl.metrics.measure import Evidence, Features, Settings, table
from genctl.metrics.memorization import balance, data_copying
from genctl.report.evaluate import evaluate


def distances(x, y):
    return np.sqrt(((x[:, None].astype(np.float64) - y[None]) ** 2).sum(-1))


def taken(generated, training, held_out=None, *, mirrored=False, **settings):
    evidence = Evidence(
        Features(generated),
        training=Features(training),
        held_out=None if held_out is None else Features(held_out),
        mirrored=mirrored,
    )
    return table()["memorization"].take(evidence, Settings(**settings)), evidence


def law(seed, n, d=16):
    """Rows of one mixture, whichever seed draws them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((5, d)) * 3
    return (centres[rng.integers(5, size=n)] + rng.standard_normal((n, d))).astype(np.float32)


def test_as_defined():
    q, t, p = law(0, 60), law(1, 90), law(2, 90)
    entry, evidence = taken(q, t, p)
    to_t, to_p, held = distances(q, t), distances(q, p), distances(p, t).min(1)
    own = distances(t, t)
    np.fill_diagonal(own, np.inf)
    nearest = to_t.argmin(1)
    assert entry["threshold"] == pytest.approx(np.median(held) / 2, rel=1e-9)
    assert entry["copies"] == (to_t.min(1) <= entry["threshold"]).mean()
    assert entry["copies_held_out"] == (held <= entry["threshold"]).mean()
    assert entry["balance"] == (to_t.min(1) < to_p.min(1)).mean()
    assert entry["balance_error"] == pytest.approx(0.5 / 60**0.5)
    assert entry["authenticity"] == (to_t.min(1) > own[nearest].min(1)).mean()
    assert entry["distance_ratio"] == pytest.approx(to_t.min(1).mean() / to_p.min(1).mean())
    assert evidence.facts["memorization"] == {
        "n_training": 90,
        "n_held_out": 90,
        "n_balance": 90,
        "mirrored": False,
        "threshold": "half the usual distance",
    }
    first = entry["nearest"][0]
    assert first["generated"] == to_t.min(1).argmin()
    assert first["training"] == np.argsort(to_t[first["generated"]])[:5].tolist()
    assert first["distances"] == pytest.approx(np.sort(to_t[first["generated"]])[:5], abs=1e-6)
    assert [row["distances"][0] for row in entry["nearest"]] == sorted(
        row["distances"][0] for row in entry["nearest"]
    )


@pytest.mark.parametrize("ties", [False, True])
def test_z_is_that_of_the_mann_whitney_test(ties):
    """The statistic of the authors' code: scipy's U, their mean with correction, their deviation."""
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(3)
    a, b = rng.random(80), rng.random(50) + 0.1
    if ties:
        a, b = a.round(1), b.round(1)
    u = mannwhitneyu(a, b, alternative="less").statistic
    expected = (u - (80 * 50 / 2 - 0.5)) / np.sqrt(80 * 50 * 131 / 12)
    assert data_copying(a, b) == pytest.approx(expected, rel=1e-12)
    assert expected < -1


def test_planted_copies_are_found():
    """A fifth are copies, exact or nearly: each number that can accuse does, where honest ones do not."""
    t, p, honest = law(4, 400), law(5, 400), law(6, 400)
    copying = honest.copy()
    copying[:40] = t[:40]
    copying[40:80] = t[40:80] + 1e-3
    clean, _ = taken(honest, t, p)
    found, _ = taken(copying, t, p)
    assert found["copies"] >= 0.2
    assert clean["copies"] == clean["copies_held_out"] == found["copies_held_out"] == 0.0
    assert found["z_u"] < clean["z_u"] - 3
    assert found["balance"] > clean["balance"] + 0.05
    assert found["authenticity"] < clean["authenticity"] - 0.1
    assert found["distance_ratio"] < clean["distance_ratio"] - 0.1
    assert {row["generated"] for row in found["nearest"]} <= set(range(40))
    assert all(row["distances"][0] == 0.0 for row in found["nearest"])
    assert all(row["training"][0] == row["generated"] for row in found["nearest"])


def test_an_honest_split_is_not_accused():
    """Over twenty draws the balance averages ½ and Z_U 0, each within four standard errors."""
    drawn = [taken(*(law(seed * 3 + i, 100, d=4) for i in range(3)))[0] for seed in range(100, 120)]
    for key, expected in (("balance", 0.5), ("z_u", 0.0), ("distance_ratio", 1.0)):
        values = np.array([entry[key] for entry in drawn])
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values)), key
    assert np.mean([abs(entry["z_u"]) < 2.5 for entry in drawn]) > 0.85


def test_the_balance_is_taken_with_sets_of_one_size():
    """Ten times as many training as held-out rows are nearer to anything: that is no copying."""
    q, t, p = law(7, 400, d=4), law(8, 2000, d=4), law(9, 200, d=4)
    entry, evidence = taken(q, t, p)
    assert evidence.facts["memorization"]["n_balance"] == 200
    assert abs(entry["balance"] - 0.5) < 4 * entry["balance_error"]
    unfair = (distances(q, t).min(1) < distances(q, p).min(1)).mean()
    assert unfair > 0.5 + 8 * entry["balance_error"]


def test_a_threshold_of_ones_own_and_ties():
    t = np.array([[0.0], [10.0], [20.0]])
    q = np.array([[1.0], [13.0], [20.0]])
    entry, _ = taken(q, t, t + 5, copy_threshold=1.0)
    assert (entry["threshold"], entry["copies"]) == (1.0, 2 / 3)
    assert entry["authenticity"] == 0.0
    assert balance(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == 0.5


def test_mirror_images_are_searched_and_are_nobodys_neighbour():
    """A copy of a mirrored row is a copy; a row's own mirror image does not count in authenticity."""
    t = law(10, 50)
    both = np.concatenate([t, t[:, ::-1]])
    p = law(11, 50)
    q = t[:10, ::-1] + 0.01
    plain, _ = taken(q, t, p)
    found, evidence = taken(q, both, np.concatenate([p, p[:, ::-1]]), mirrored=True)
    assert plain["copies"] == 0.0
    assert found["copies"] == 1.0
    assert found["nearest"][0]["training"][0] >= 50
    assert evidence.facts["memorization"]["n_training"] == 50
    symmetric = np.array([[0.0, 0.0], [3.0, 3.0]])  # each row is its own mirror image
    entry, _ = taken(
        np.array([[0.0, 1.0]]), np.concatenate([symmetric, symmetric[:, ::-1]]), mirrored=True
    )
    assert entry["authenticity"] == 0.0  # 1 away, the other row is √18 away from the first


def test_little_data():
    one = np.zeros((1, 3))
    entry, _ = taken(np.ones((4, 3)), one)
    assert entry["authenticity"] is None
    assert entry["balance"] is None
    assert entry["threshold"] == entry["copies"] == 0.0
    entry, _ = taken(one, one, one)
    assert (entry["copies"], entry["copies_held_out"], entry["balance"]) == (1.0, 1.0, 0.5)
    assert entry["distance_ratio"] is None


# --- the command --------------------------------------------------------------------------------
def run_json(capsys, *words):
    code = main(["evaluate", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_stored_features_with_a_held_out_file(tmp_path, capsys):
    paths = {name: tmp_path / f"{name}.npz" for name in ("q", "t", "p")}
    rows = {"q": law(20, 80), "t": law(21, 100), "p": law(22, 60)}
    rows["q"][:16] = rows["t"][:16]
    for name, path in paths.items():
        np.savez(path, features=rows[name])
    words = (paths["q"], paths["t"], "--memorization", "--held-out", paths["p"])
    gates = ("--require", "memorization.copies<=0.05", "--require", "memorization.z_u>-100")
    code, found, _ = run_json(capsys, *words, *gates)
    assert code == 3
    assert [gate["met"] for gate in found["gates"]] == [False, True]
    entry = found["metrics"]["memorization"]
    assert entry["copies"] == 0.2
    expected, _ = taken(rows["q"], rows["t"], rows["p"])
    assert entry == expected
    assert main(["evaluate", *map(str, words)]) == 0
    assert "20.00% within" in capsys.readouterr().out
    code, found, err = run_json(capsys, *words[:3], "-n", 50)
    assert code == 0
    assert found["metrics"]["memorization"]["balance"] is None
    assert "nothing is held out" in err
    assert found["protocol"]["settings"]["memorization"]["n_training"] == 100  # all, whatever -n
    code, found, _ = run_json(capsys, paths["q"], paths["t"])
    assert "memorization" not in found["metrics"]  # only when asked for


def test_pictures_against_the_parts_of_a_data_set(tmp_path, capsys):
    """Copies of training digits are found, held-out digits are not taken for copies."""
    train, test = open_dataset("digits@train"), open_dataset("digits@test")
    images = np.concatenate([train.images(slice(0, 30)).numpy(), test.images(slice(0, 30)).numpy()])
    np.savez(tmp_path / "q.npz", images=images.transpose(0, 2, 3, 1))
    picture = tmp_path / "new" / "neighbours.png"
    words = (tmp_path / "q.npz", "digits", "--memorization", "--features", "pixels")
    code, found, _ = run_json(capsys, *words, "--plot", picture)
    assert code == 0
    entry = found["metrics"]["memorization"]
    assert 0.5 <= entry["copies"] < 0.7
    assert entry["copies_held_out"] < 0.2
    assert {row["generated"] for row in entry["nearest"]} <= set(range(30))
    assert all(row["training"][0] == row["generated"] for row in entry["nearest"])
    facts = found["protocol"]["settings"]["memorization"]
    assert facts["n_training"] == len(train)
    assert facts["n_held_out"] == len(test)
    assert entry["picture"] == str(picture)
    with Image.open(picture) as drawn:
        tiles = np.asarray(drawn)
    assert (tiles[2:34, 2:34] == tiles[2:34, 70:102]).all()  # a copy stands beside its original
    assert (tiles[2:34, 36:68] == 255).all()
    assert not (tiles[2:34, 2:34] == tiles[2:34, 104:136]).all()
    named = run_json(capsys, words[0], "digits@test", *words[2:])[1]["metrics"]["memorization"]
    assert {key: named[key] for key in ("copies", "z_u")} == {
        k: entry[k] for k in ("copies", "z_u")
    }


def test_a_run_trained_with_flips_is_searched_with_them(tmp_path, capsys):
    settings = {
        "train.steps": 1,
        "train.batch_size": 8,
        "log.preview_every": 0,
        "data.flip": True,
        "model.generator.width": 8,
        "model.discriminator.width": 8,
    }
    fit(load_config("quickstart", settings), "digits", tmp_path / "run", device="cpu")
    words = (tmp_path / "run", "digits", "--memorization", "--prd", "--features", "pixels")
    code, found, _ = run_json(capsys, *words, "-n", 40)
    assert code == 0
    assert found["protocol"]["settings"]["memorization"]["mirrored"] is True
    for name in ("prd", "memorization"):
        picture = tmp_path / "run" / "reports" / f"evaluate-00000001-pixels-{name}.png"
        assert found["metrics"][name]["picture"] == str(picture)
        assert Image.open(picture).size[0] > 100
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "reports" / "report.html").read_text()
    assert "8 generated pictures, the nearest to a training picture first" in page
    assert "F8 (recall)" in page


def test_neighbours_in_folders_are_told_by_their_files(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder, names in (("real", "cab"), ("made", "zy")):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(
                tmp_path / folder / f"{name}.png"
            )
    shutil.copy(tmp_path / "real" / "a.png", tmp_path / "made" / "y.png")
    words = (tmp_path / "made", tmp_path / "real", "--memorization", "--features", "pixels")
    found = run_json(capsys, *words, "--held-out", tmp_path / "made")[1]
    first = found["metrics"]["memorization"]["nearest"][0]
    assert first["generated_file"] == "y.png"
    assert first["training_files"][0] == "a.png"
    assert len(first["training_files"]) == len(first["training"]) == 3
    assert "1 of 2 held-out examples" in found["warnings"][0]


def test_held_out_examples_that_were_trained_on_are_refused_or_told(tmp_path, capsys):
    test = open_dataset("digits@test").images(slice(0, 30)).numpy().transpose(0, 2, 3, 1)
    np.savez(tmp_path / "q.npz", images=test)
    words = (tmp_path / "q.npz", "digits@all", "--memorization", "--features", "pixels")
    code, found, _ = run_json(capsys, *words, "--held-out", "digits@test")
    assert code == 2
    assert "all of its 72 examples are in the training part, digits@all" in found["error"]["reason"]
    assert run_json(capsys, *words, "--held-out", "digits@all")[0] == 2
    rows = law(20, 30)
    np.savez(tmp_path / "t.npz", features=rows)
    np.savez(tmp_path / "p.npz", features=np.concatenate([rows[:3], law(21, 5)]))
    stored = (tmp_path / "p.npz", tmp_path / "t.npz", "--memorization", "--held-out")
    assert run_json(capsys, *stored, tmp_path / "t.npz")[0] == 2
    code, found, _ = run_json(capsys, *stored, tmp_path / "p.npz")
    assert code == 0
    assert "3 of 8 held-out examples" in found["warnings"][0]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["{q}", "digits", "--fid", "--held-out", "digits@test"], 2, "no measure here looks at it"),
        (["{q}", "--memorization", "--features", "pixels"], 2, "training examples"),
        (["{points}", "toy:ring", "--memorization"], 2, "nothing to copy"),
        (["{q}", "digits", "--fid", "--features", "pixels", "--plot", "x.png"], 2, "has a picture"),
        (["{q}", "digits", "--prd", "--features", "pixels", "--plot", "x.gif"], 2, "are PNG"),
        (["{features}", "digits", "--memorization"], 4, "does not say whose"),
    ],
)
def test_mistakes(words, code, text, tmp_path, capsys):
    paths = {name: tmp_path / f"{name}.npz" for name in ("q", "points", "features")}
    np.savez(paths["q"], images=np.zeros((20, 8, 8), np.uint8))
    np.savez(paths["points"], points=np.zeros((20, 2), np.float32))
    np.savez(paths["features"], features=np.zeros((20, 2)))
    found, payload, _ = run_json(capsys, *(word.format(**paths) for word in words))
    assert (found, payload["error"]["code"]) == (code, code)
    assert text in payload["error"]["thing"] + payload["error"]["reason"]


def test_a_run_that_was_trained_on_everything_has_nothing_held_out(tmp_path):
    settings = {"train.steps": 1, "train.batch_size": 8, "log.preview_every": 0}
    fit(load_config("gan", settings), "digits@all", tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="trained on its all part"):
        evaluate(tmp_path / "run", "digits", ["memorization"], n=20, features="pixels")
