from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from PIL import Image

from genctl.cli.main import app, main
from genctl.config.load import load_config
from genctl.data.dataset import open_dataset
from genctl.engine.fit import fit
from genctl.errors import DataError, UsageError
from genctl.metrics.measure import table
from genctl.report.evaluate import evaluate
from genctl.report.gates import protocol_differences

EXPECTED = {
    "generated",
    "real",
    "n_generated",
    "n_real",
    "features",
    "protocol",
    "metrics",
    "warnings",
    "gates",
}
TINY = {"train.steps": 2, "train.batch_size": 8, "log.preview_every": 0, "train.precision": "fp32"}


def train(preset, out, **more):
    fit(load_config(preset, {**TINY, **more}), "digits", out, device="cpu")
    return out


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    return train("classifier", out, **{"model.network.width": 8, "train.steps": 40})


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    widths = {"model.generator.width": 8, "model.discriminator.width": 8}
    return train("quickstart", tmp_path_factory.mktemp("runs") / "generator", **widths)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pictures")
    for i in range(30):
        image = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(image).save(path / f"{i:02d}.png")
    return path


@pytest.fixture
def stored(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i, n in enumerate((40, 30)):
        p = rng.dirichlet(np.ones(4), n)
        paths.append(tmp_path / f"{i}.npz")
        np.savez(paths[-1], features=rng.standard_normal((n, 5)) + i, probabilities=p)
    return paths


def run_json(capsys, *words):
    code = main(["evaluate", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    for key, entry in json.loads(out).get("metrics", {}).items():  # gates reach every number
        measure = next(m for m in table().values() if key in (m.name, m.other_name))
        numbers = {name for name, value in entry.items() if isinstance(value, int | float)}
        assert numbers <= set(measure.numbers)
    return code, json.loads(out), err


# --- what is compared ---------------------------------------------------------------------------
def test_a_run_against_its_data_in_pixels(generator, capsys):
    words = (generator, "digits", "--kid", "--fid", "--features", "pixels", "-n", 50)
    code, found, err = run_json(capsys, *words)
    assert code == 0
    assert set(found) == EXPECTED
    assert set(found["metrics"]) == {"fd", "kid"}
    assert found["metrics"]["fd"]["value"] > 0
    assert found["features"] == "pixels"
    assert (found["n_generated"], found["n_real"]) == (50, 50)
    protocol = found["protocol"]
    assert protocol["generated"] == {
        "kind": "run",
        "step": 2,
        "weights": "averaged",
        "precision": "fp32",
    }
    assert protocol["split"] == "train"
    assert protocol["seed"] == 0
    assert protocol["settings"]["kid"] == {"subsets": 100, "subset_size": 50}
    assert "8x8" in protocol["resize"]
    assert {"genctl", "torch", "numpy", "scipy"} <= set(protocol["versions"])
    assert "subsets of 50 are used" in err
    saved = json.loads((generator / "reports" / "evaluate-00000002-pixels.json").read_text())
    assert saved == found


@pytest.mark.parametrize("features", ["pixels", "classifier"])
def test_the_batch_size_changes_nothing(generator, classifier, features):
    chosen = features if features == "pixels" else str(classifier)
    one, many = (
        evaluate(generator, "digits", ["fid", "kid"], n=40, features=chosen, batch_size=size)
        for size in (1, 64)
    )
    for key in ("fd", "kid"):
        for name, value in one["metrics"][key].items():
            assert value == pytest.approx(many["metrics"][key][name], rel=1e-5, abs=1e-7)


def test_the_seed_decides_the_samples_and_the_rows(generator):
    values = [
        evaluate(generator, "digits", ["fid"], n=40, features="pixels", seed=seed)["metrics"]["fd"]
        for seed in (0, 0, 1)
    ]
    assert values[0] == values[1] != values[2]


def test_features_of_a_classifier_run_are_fd_and_its_classes_give_is(generator, classifier):
    result = evaluate(generator, "digits", ["fid", "is"], n=60, features=classifier, is_splits=2)
    assert set(result["metrics"]) == {"fd", "is"}
    assert 1 <= result["metrics"]["is"]["mean"] <= 10
    assert result["metrics"]["is"]["splits"] == 2
    assert result["features"] == "small"
    assert "classifier run small, step 40" in result["protocol"]["extractor"]
    assert result["protocol"]["classes"] == 10
    assert len(result["protocol"]["extractor_hash"]) == 64


def test_real_data_against_itself_is_near_zero_and_noise_is_not(classifier, folder):
    digits = evaluate("digits@test", "digits@train", ["fid"], features=classifier)
    noise = evaluate(folder, "digits@train", ["fid"], features=classifier)
    assert digits["metrics"]["fd"]["value"] < 0.3 * noise["metrics"]["fd"]["value"]
    assert evaluate(folder, folder, ["fid"], features="pixels")["metrics"]["fd"]["value"] == 0.0


def test_a_folder_is_taken_whole_unless_a_part_is_named(folder):
    whole = evaluate(folder, folder, ["fid"], features="pixels")
    assert (whole["n_generated"], whole["n_real"]) == (30, 30)
    assert whole["protocol"]["split"] == "all"
    part = evaluate(folder, folder, ["fid"], features="pixels", n=20)
    assert (part["n_generated"], part["n_real"]) == (20, 20)
    named = evaluate(folder, f"{folder}@train", ["fid"], features="pixels")
    assert named["n_real"] < 30
    assert named["protocol"]["split"] == "train"


def test_folders_of_several_sizes_are_measured_at_one_and_the_protocol_says_so(tmp_path, capsys):
    """By the rule of ``data.size``: the same as files that were resized to it before."""
    rng = np.random.default_rng(0)
    for name in ("mixed", "ready"):
        (tmp_path / name).mkdir()
    for i in range(12):
        shape = (16, 16) if i % 2 else (12, 20)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(
            tmp_path / "mixed" / f"{i:02d}.png"
        )
    for name, image in zip(*resized_as_for_training(tmp_path / "mixed", 8), strict=True):
        Image.fromarray(image).save(tmp_path / "ready" / name)
    words = [tmp_path / "mixed", tmp_path / "mixed@train", "--fid", "--features", "pixels"]
    code, found, _ = run_json(capsys, *words)
    assert code == 4
    assert "--size 8 to evaluate" in found["error"]["remedy"]
    code, found, _ = run_json(capsys, *words, "--size", 8)
    assert (code, found["protocol"]["size"]) == (0, 8)
    assert found["protocol"]["generated"]["shape"] == [1, 8, 8]
    other = run_json(capsys, *words, "--size", 12)[1]
    assert "size: 8 against 12" in protocol_differences(found, other)
    code, same, _ = run_json(
        capsys, tmp_path / "mixed", tmp_path / "ready", *words[2:], "--size", 8
    )
    assert (code, same["metrics"]["fd"]["value"]) == (0, 0.0)


def resized_as_for_training(folder, size):
    dataset = open_dataset(str(folder), size=size, split="all")
    return dataset.names, dataset.images(slice(None))[:, 0].numpy()


def test_stored_features_need_no_network(stored, capsys):
    code, found, _ = run_json(capsys, *stored, "--is-splits", 2)
    assert code == 0
    assert set(found["metrics"]) == {"fd", "is", "kid", "prd", "pr", "dc"}
    assert found["features"] == "stored"
    x, y = (np.load(path)["features"] for path in stored)
    from scipy.linalg import sqrtm

    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert found["metrics"]["fd"]["value"] == pytest.approx(float(expected), abs=1e-6)


def test_stored_probabilities_alone_give_is_without_real_data(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, probabilities=np.tile(np.eye(4), (5, 1)))
    result = evaluate(path, None, None, is_splits=1)
    assert set(result["metrics"]) == {"is"}
    assert result["metrics"]["is"]["mean"] == pytest.approx(4.0)


def test_points_are_their_own_features(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "ring.npz", points=rng.standard_normal((200, 2)).astype(np.float32))
    result = evaluate(tmp_path / "ring.npz", "toy:ring", ["fid"], n=200)
    assert result["features"] == "points"
    assert result["metrics"]["fd"]["value"] > 0


def test_a_classifier_run_is_measured_by_its_accuracy(classifier, capsys):
    code, found, _ = run_json(capsys, classifier, "digits")
    assert code == 0
    assert set(found["metrics"]) == {"accuracy"}
    assert 0.2 < found["metrics"]["accuracy"]["value"] <= 1.0
    said = found["protocol"]["settings"]["accuracy"]
    assert (said["split"], said["n"], said["precision"]) == ("test", 72, "fp32")
    assert found["features"] is None
    few = evaluate(classifier, "digits", ["accuracy"], n=30)
    assert protocol_differences(found, few) == ["accuracy.n: 72 against 30"]
    seen = evaluate(classifier, "digits", ["accuracy"], n=30, seed=1)
    assert protocol_differences(few, seen) == ["accuracy.seed: 0 against 1"]
    other = evaluate(classifier, "digits@train", ["accuracy"])
    assert any("accuracy.fingerprint" in text for text in protocol_differences(found, other))


def test_likelihood_of_the_held_out_part(tmp_path):
    out = train("vae", tmp_path / "vae")
    one, many = (evaluate(out, "digits", ["nll"], n=30, batch_size=size) for size in (7, 64))
    entry = one["metrics"]["nll"]
    assert entry["nats"] == pytest.approx(many["metrics"]["nll"]["nats"], rel=1e-4)
    assert entry["bits_per_dim"] == pytest.approx(entry["nats"] / (64 * np.log(2)))
    assert entry["kind"] == "lower_bound"
    assert entry["n"] == 30
    assert one["protocol"]["split"] == "test"
    assert one["features"] is None
    assert protocol_differences(one, many) == []
    trained = evaluate(out, "digits@train", ["nll"], n=30)
    assert any("nll.fingerprint" in text for text in protocol_differences(one, trained))


# --- precision ------------------------------------------------------------------------------------
def test_bf16_features_are_another_protocol_and_another_report(generator, classifier, capsys):
    words = (generator, "digits", "--fid", "--features", classifier, "-n", 40)
    found = {}
    for name in ("fp32", "bf16"):
        code, found[name], _ = run_json(capsys, *words, "--precision", name)
        assert code == 0
        assert found[name]["protocol"]["precision"] == name
        assert found[name]["protocol"]["generated"]["precision"] == "fp32"  # the run's own
    full, half = (found[name]["metrics"]["fd"]["value"] for name in ("fp32", "bf16"))
    assert full != half
    assert half == pytest.approx(full, rel=0.05)
    reports = generator / "reports"
    kept = [json.loads(p.read_text()) for p in reports.glob("evaluate-00000002-small*.json")]
    assert found["fp32"]["metrics"]["fd"] in [entry["metrics"]["fd"] for entry in kept]
    saved = reports / "evaluate-00000002-small-bf16.json"
    assert json.loads(saved.read_text()) == found["bf16"]
    assert not any("bf16" in text for text in found["fp32"]["warnings"])
    assert "features in bf16: compare these numbers only with" in found["bf16"]["warnings"][0]
    _, again, _ = run_json(capsys, *words, "--baseline", saved)
    assert "precision: fp32 against bf16" in again["warnings"][-1]


def test_pixels_pass_no_network_and_a_precision_for_one_is_said_to_be_idle(folder, tmp_path):
    asked = {"features": "pixels", "precision": "bf16"}
    plain = evaluate(folder, folder, ["fid"], **asked)
    assert plain["protocol"]["precision"] == "fp32"
    assert "--precision bf16: pixels pass no network" in plain["warnings"][0]
    words = ["data", "cache", str(folder), "--statistics", "--features", "pixels", "--quiet"]
    assert main([*words, "--precision", "bf16", "--out", str(tmp_path / "f.npz")]) == 0
    stored = evaluate(folder, tmp_path / "f.npz", ["fid"], **asked)
    assert stored["protocol"]["precision"] == "fp32"
    assert stored["warnings"] == plain["warnings"]


def test_the_run_has_a_precision_of_its_own(generator):
    words = (generator, "digits", ["fid"])
    plain, half = (
        evaluate(*words, n=40, features="pixels", run_precision=name) for name in (None, "bf16")
    )
    assert half["protocol"]["generated"]["precision"] == "bf16"
    assert half["protocol"]["precision"] == plain["protocol"]["precision"] == "fp32"
    assert half["metrics"] != plain["metrics"]


def test_auto_is_fp32_because_a_number_should_not_depend_on_the_machine(folder, classifier):
    result = evaluate(folder, folder, ["fid"], features=classifier, precision="auto")
    assert result["protocol"]["precision"] == "fp32"
    with pytest.raises(UsageError, match="fp32 or bf16"):
        evaluate(folder, folder, ["fid"], features=classifier, precision="tf32")


@pytest.mark.parametrize(
    ("generated", "real", "asked", "reason"),
    [
        ("bf16", None, None, "0.npz is stored in bf16, .*1.npz in fp32 .it says no `precision`."),
        ("bf16", "fp32", None, "0.npz is stored in bf16, .*1.npz in fp32"),
        (None, "bf16", None, "in fp32 .it says no `precision`., .*1.npz in bf16"),
        ("bf16", "bf16", "fp32", "stored in bf16, asked for fp32"),
        ("fp32", "fp32", "bf16", "stored in fp32, asked for bf16"),
        (None, None, "bf16", "asked for bf16"),
        ("bf16", "bf16", None, None),
        ("bf16", "bf16", "bf16", None),
        (None, "fp32", "fp32", None),
        (None, None, "auto", None),
    ],
)
def test_stored_features_of_two_precisions_are_never_mixed(stored, generated, real, asked, reason):
    for path, said in zip(stored, (generated, real), strict=True):
        arrays = dict(np.load(path))
        np.savez(path, **arrays, **({} if said is None else {"precision": said}))
    if reason is not None:
        with pytest.raises(DataError, match=reason) as raised:
            evaluate(*stored, ["fid"], precision=asked)
        assert raised.value.remedy
        return
    result = evaluate(*stored, ["fid"], precision=asked)
    assert result["metrics"]["fd"]["value"] > 0
    assert result["protocol"]["precision"] == (generated or real)


# --- what cannot be had -------------------------------------------------------------------------
def test_a_measure_without_a_value_is_null_with_a_reason(stored, capsys):
    code, found, _ = run_json(capsys, *stored, "--is", "--fid", "--is-splits", 100)
    assert code == 0
    entry = found["metrics"]["is"]
    assert entry["mean"] is None
    assert "cannot be split" in entry["reason"]
    assert found["metrics"]["fd"]["value"] > 0


def test_nothing_could_be_taken_is_exit_4(stored, capsys):
    code, found, _ = run_json(capsys, stored[0], "--is", "--is-splits", 100)
    assert code == 4
    assert found["error"]["code"] == 4
    assert "cannot be split" in found["error"]["reason"]


def test_likelihood_of_a_model_without_one_is_exit_5(generator, capsys):
    code, found, _ = run_json(capsys, generator, "digits", "--nll")
    assert code == 5
    assert "presets that can" in found["error"]["remedy"]


def test_no_weights_is_exit_5_with_what_to_do(folder, monkeypatch, tmp_path, capsys):
    import torch

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("GENCTL_INCEPTION_WEIGHTS", raising=False)

    def refuse(url, target, **options):
        raise OSError("offline")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    for words in ([folder, folder, "--fid"], [folder, folder]):
        code, found, _ = run_json(capsys, *words)
        assert code == 5
        assert "--features pixels" in found["error"]["remedy"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["{folder}", "--fid", "--features", "pixels"], 2, "not given"),
        (["{folder}", "{folder}", "--nll"], 2, "not a run"),
        (["{folder}", "{folder}", "--fid", "--features", "nonsense"], 2, "neither a run"),
        (["{folder}", "{folder}", "--require", "fid"], 2, "expected metric"),
        (["{folder}", "{folder}", "--require", "fid<many"], 2, "not a number"),
        (
            ["{folder}", "{folder}", "--kid", "--features", "pixels", "--require", "fd<1"],
            2,
            "not taken",
        ),
        (
            ["{folder}", "{folder}", "--fid", "--features", "pixels", "--require", "fid<1"],
            2,
            "not taken",
        ),
        (
            ["{folder}", "{folder}", "--kid", "--features", "pixels", "--require", "kid.x<1"],
            2,
            "no field",
        ),
        (
            ["{folder}", "{folder}", "--fid", "--features", "pixels", "--require", "fd<baseline"],
            2,
            "--baseline",
        ),
        (["{folder}", "{folder}", "--baseline", "none.json"], 4, "cannot be read"),
        (["{folder}", "{folder}", "--baseline", "/dev/zero"], 4, "not a regular file"),
        (["{folder}/none", "{folder}", "--fid", "--features", "pixels"], 4, ""),
        (["{run}@99", "digits", "--fid", "--features", "pixels"], 4, ""),
        (["{run}", "digits", "--fid", "--features", "pixels", "--size", "8"], 2, "is a run of"),
        (["{stored}", "{stored}", "--fid", "--size", "8"], 2, "holds features"),
        (["toy:ring", "toy:ring", "--fid", "--size", "8"], 2, "holds points"),
        (["{run}", "toy:ring", "--fid", "--features", "pixels"], 4, "points"),
        (["{stored}", "digits", "--fid"], 4, "stored features"),
        (["{run}", "digits", "--fid", "--features", "{run}"], 5, "cannot features"),
    ],
)
def test_mistakes_are_answered_with_their_code(
    words, code, text, folder, generator, stored, capsys
):
    filled = [w.format(folder=folder, run=generator, stored=stored[0]) for w in words]
    found, payload, _ = run_json(capsys, *filled)
    assert (found, payload["error"]["code"]) == (code, code)
    assert text in payload["error"]["thing"] + payload["error"]["reason"]


# --- gates --------------------------------------------------------------------------------------
def test_gates_met_and_not_met(stored, capsys, tmp_path):
    met = ("fd<1000", "is.mean>=1", "kid.std>=0", "fd == 0")
    words = [word for gate in met for word in ("--require", gate)]
    out = tmp_path / "deep" / "result.json"
    code, found, _ = run_json(capsys, *stored, *words, "--out", out)
    assert code == 3
    assert [gate["met"] for gate in found["gates"]] == [True, True, True, False]
    assert [gate["require"] for gate in found["gates"]] == list(met)
    assert found["gates"][0]["value"] == found["metrics"]["fd"]["value"]
    assert found["error"]["code"] == 3
    assert json.loads(out.read_text()) == found
    code, found, _ = run_json(capsys, *stored, *words[:-2])
    assert code == 0
    assert "error" not in found


def test_a_gate_on_null_is_not_met(stored, capsys):
    code, found, _ = run_json(
        capsys, *stored, "--is", "--fid", "--is-splits", 100, "--require", "is>=1"
    )
    assert code == 3
    assert found["gates"] == [{"require": "is>=1", "value": None, "bound": 1.0, "met": False}]


def test_gates_on_the_change_say_when_the_protocol_differs(stored, capsys, tmp_path):
    out = tmp_path / "base.json"
    words = [*stored, "--fid", "--require", "fd<=baseline+0.5", "--baseline", out]
    assert run_json(capsys, *stored, "--fid", "--out", out)[0] == 0
    code, found, _ = run_json(capsys, *words)
    assert code == 0
    assert found["gates"][0]["bound"] == pytest.approx(found["metrics"]["fd"]["value"] + 0.5)
    assert found["warnings"] == []
    code, found, _ = run_json(capsys, *words, "-n", 20, "--unlike-protocols")
    assert code == 0
    assert "another protocol: n_generated: 20 against 40" in found["warnings"][-1]
    plain = [word for word in words if word not in ("--require", "fd<=baseline+0.5")]
    code, found, _ = run_json(capsys, *plain, "--require", "fd<1000", "-n", 20)
    assert code == 0, "a gate of its own does not read the baseline"
    assert "n_generated: 20 against 40" in found["warnings"][-1]


def test_gates_on_the_change_refuse_an_unlike_baseline_before_the_features(
    stored, capsys, tmp_path, monkeypatch
):
    out = tmp_path / "base.json"
    assert run_json(capsys, *stored, "--fid", "--out", out)[0] == 0
    monkeypatch.setattr("genctl.report.evaluate.collect", lambda *_: 1 / 0)
    words = [*stored, "--fid", "--require", "fd<=baseline+1000", "--baseline", out, "-n", 20]
    code, found, _ = run_json(capsys, *words)
    assert code == 2
    assert "another protocol: n_generated: 20 against 40" in found["error"]["reason"]
    assert "--unlike-protocols" in found["error"]["remedy"]


def test_a_gate_is_refused_for_what_concerns_its_measure_alone(stored, capsys, tmp_path):
    """The Inception score reads no real examples, so it may be compared whether there were any."""
    out = tmp_path / "base.json"
    assert run_json(capsys, stored[0], "--is", "--is-splits", 2, "--out", out)[0] == 0
    words = [*stored, "--is", "--fid", "--is-splits", 2, "--baseline", out, "-n", 40]
    code, found, _ = run_json(capsys, *words, "--require", "is>=baseline-1")
    assert (code, found["gates"][0]["met"]) == (0, True)
    assert run_json(capsys, *words[:-1], 20, "--require", "is>=baseline-1")[0] == 2


def test_what_shows_itself_only_in_the_numbers_is_not_met(stored, capsys, tmp_path):
    out = tmp_path / "base.json"
    words = [*stored, "--kid", "--fid", "--baseline", out]
    made = run_json(capsys, *stored, "--kid", "--fid", "--kid-subset-size", 10, "--out", out)
    assert made[0] == 0
    gates = ["--require", "kid<=baseline+1000", "--require", "fd<=baseline+1000"]
    code, found, _ = run_json(capsys, *words, *gates)
    assert code == 2
    assert [gate["met"] for gate in found["gates"]] == [False, True]
    assert "kid.subset_size: 30 against 10" in found["gates"][0]["reason"]
    assert found["metrics"]["kid"]["mean"] > 0, "the numbers are not lost"
    code, found, _ = run_json(capsys, *words, *gates, "--unlike-protocols")
    assert (code, [gate["met"] for gate in found["gates"]]) == (0, [True, True])


@pytest.mark.parametrize(
    "text",
    [
        '{"metrics": {"fd": 3.0}}',
        '{"metrics": {"fd": [3]}}',
        '{"metrics": {"fd": {"value": NaN}}}',
        '{"metrics": {"fd": {"value": 1e400}}}',
    ],
)
def test_a_damaged_baseline_is_bad_data(text, stored, capsys, tmp_path):
    """An infinite bound would be met by anything."""
    (tmp_path / "base.json").write_text(text)
    words = [*stored, "--fid", "--require", "fd<=baseline", "--baseline", tmp_path / "base.json"]
    assert run_json(capsys, *words)[0] == 4


def test_a_gate_that_cannot_be_judged_is_refused_before_the_features(stored, capsys, monkeypatch):
    def too_late(*_):
        raise AssertionError("something was computed")

    monkeypatch.setattr("genctl.report.evaluate.collect", too_late)
    code, found, _ = run_json(capsys, *stored, "--fid", "--require", "fd<=baseline+2")
    assert code == 2
    assert "--baseline" in found["error"]["reason"]


# --- the command --------------------------------------------------------------------------------
def test_every_measure_has_a_flag():
    evaluate_command = typer.main.get_command(app).commands["evaluate"]
    flags = {name for parameter in evaluate_command.params for name in parameter.opts}
    assert len(table()) == 15
    assert {f"--{measure.flag}" for measure in table().values()} <= flags


def test_text_for_people(stored, capsys):
    assert main(["evaluate", *map(str, stored), "--require", "fd<0.001"]) == 3
    out, err = capsys.readouterr()
    assert "stored features of 40 generated and 30 real" in out
    assert "NOT MET   fd<0.001" in out
    assert "not met: fd<0.001 (found" in err
    assert "\x1b" not in out + err
