"""The diagnosis on made-up logs of every kind, and on healthy noisy ones of many losses."""

from __future__ import annotations

import re

import numpy as np
import pytest
from made_up_runs import FAILING, HEALTHY, Rows, dcgan, rows_of, strong, vae, weak, write

from genctl.config.load import load_config
from genctl.report.curves import read_curves
from genctl.report.diagnosis import Diagnosis, diagnose

KINDS = {
    "healthy",
    "discriminator-too-strong",
    "discriminator-too-weak",
    "mode-collapse",
    "oscillation",
    "divergence",
    "stalled",
    "memorising",
    "too-short",
}
CONFIG = """
model:
  kind: adversarial
  generator: {kind: dcgan}
  discriminator: {kind: dcgan}
  objective: {kind: non-saturating, real_target: 1.0}
  play: {kind: fixed, discriminator: 1, generator: 1}
  history: 0
optim:
  discriminator: {kind: adam, lr: 4.0e-4}
  generator: {kind: adam, lr: 1.0e-4}
train: {batch_size: 32, seed: 3}
log: {every: 50}
"""


def of(tmp_path, rows: Rows) -> Diagnosis:
    return diagnose(read_curves(write(tmp_path, rows)))


@pytest.mark.parametrize("n", [16, 40, 150])
@pytest.mark.parametrize("name", FAILING)
def test_failures_are_named(name, n, tmp_path) -> None:
    kind, maker = FAILING[name]
    if n == 16 and kind in ("oscillation", "memorising"):
        n = 24  # two or three swings, and a rise of a point or two, prove nothing yet
    if name == "wandering":
        n = max(n, 40)
    verdicts = [of(tmp_path, maker(np.random.default_rng(seed), n)).verdict for seed in range(8)]
    assert verdicts.count(kind) >= 7, verdicts


@pytest.mark.parametrize("n", [8, 16, 40, 150])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_are_left_alone(name, n, tmp_path) -> None:
    for seed in range(8):
        diagnosis = of(tmp_path, HEALTHY[name](np.random.default_rng(seed), n))
        assert diagnosis.verdict == "healthy", (seed, diagnosis)
        assert diagnosis.findings[0].remedy == ""
        assert diagnosis.spans == []


def test_every_kind_is_covered() -> None:
    assert {kind for kind, _ in FAILING.values()} | {"healthy", "too-short"} == KINDS


@pytest.mark.parametrize("name", FAILING)
def test_findings_say_when_what_and_what_to_try(name, tmp_path) -> None:
    kind, maker = FAILING[name]
    rows = maker(np.random.default_rng(1), 100)
    node = of(tmp_path, rows).as_dict()
    assert node["verdict"] == kind
    keys = {key for row in rows for key in row}
    for finding in node["findings"]:
        assert finding["kind"] in KINDS
        assert 0 < finding["confidence"] <= 1
        first, last = finding["steps"]
        assert rows[0]["step"] <= first <= last <= rows[-1]["step"]
        assert any(key in finding["evidence"] for key in keys - {"step", "images", "seconds"})
        assert f"steps {first} to {last}" in finding["evidence"]
        assert "--set " in finding["remedy"]


def test_steps_are_where_it_began(tmp_path) -> None:
    rows = dcgan(np.random.default_rng(0), 100)
    for row in rows[60:]:
        row["diversity"] = 0.02
    (finding,) = of(tmp_path, rows).findings
    assert finding.kind == "mode-collapse"
    assert abs(finding.steps[0] - rows[60]["step"]) <= 200
    assert finding.steps[1] == rows[-1]["step"]


@pytest.mark.parametrize("n", range(8))
def test_fewer_than_eight_rows_are_too_short(n, tmp_path) -> None:
    rows = strong(np.random.default_rng(0), 100)[-n:] if n else []
    diagnosis = of(tmp_path, rows)
    assert diagnosis.verdict == "too-short"
    assert f"{n} rows" in diagnosis.findings[0].evidence


def test_a_short_run_that_ended_in_nan_diverged(tmp_path) -> None:
    rows = vae(np.random.default_rng(0), 5)
    rows[-1] |= {"loss/model": None, "nonfinite": ["loss/model"]}
    assert [f.kind for f in of(tmp_path, rows).findings] == ["divergence", "too-short"]


def test_what_passed_is_no_finding(tmp_path) -> None:
    good = dcgan(np.random.default_rng(0), 100)
    for maker in (strong, weak):
        bad = maker(np.random.default_rng(1), 100)
        mixed = [{**b, **{k: g[k] for k in ("step",)}} for b, g in zip(bad, good, strict=True)]
        assert of(tmp_path, mixed[:45] + good[45:]).verdict == "healthy"
    for row in good[20:50]:
        row["diversity"] = 0.01
    assert of(tmp_path, good).verdict == "healthy"


def test_one_skipped_update_is_no_divergence(tmp_path) -> None:
    rows = dcgan(np.random.default_rng(0), 60)
    rows[30] |= {"grad_norm/generator": None, "nonfinite": ["grad_norm/generator"]}
    for row in rows[30:]:
        row["nonfinite/generator"] = 1
    assert of(tmp_path, rows).verdict == "healthy"
    for i, row in enumerate(rows[30:]):
        row["nonfinite/generator"] = 10 * i
    assert of(tmp_path, rows).verdict == "divergence"


@pytest.mark.parametrize("dropped", ["grad_norm", "score", "accuracy", "diversity", "images"])
@pytest.mark.parametrize(
    ("maker", "kind"), [(strong, "strong"), (weak, "weak"), (dcgan, "healthy")]
)
def test_any_subset_of_keys_will_do(dropped, maker, kind, tmp_path) -> None:
    rows = [
        {key: value for key, value in row.items() if not key.startswith(dropped)}
        for row in maker(np.random.default_rng(2), 80)
    ]
    assert kind in of(tmp_path, rows).verdict


def test_a_critic_is_allowed_what_a_classifier_is_not(tmp_path) -> None:
    x = np.linspace(0, 1, 60)
    noise = np.random.default_rng(0).normal(0, 0.05, 60)
    columns = {
        "loss/discriminator": -5 * np.exp(-3 * x) - 0.1 + noise,
        "loss/generator": 20 * x,
        "score/real": 30 * x,
        "score/fake": 29 * x,
        "wasserstein": 5 * np.exp(-3 * x) + 0.3 + noise,
    }
    assert of(tmp_path, rows_of(columns)).verdict == "healthy"
    strong_too = {**columns, "score/real": np.full(60, 0.99), "score/fake": np.full(60, 0.01)}
    assert of(tmp_path, rows_of(strong_too)).verdict == "healthy"
    del strong_too["wasserstein"]
    strong_too["loss/discriminator"] = np.full(60, 0.02)
    assert of(tmp_path, rows_of(strong_too)).verdict == "discriminator-too-strong"


def test_energies_are_no_probabilities(tmp_path) -> None:
    """Generated examples have the higher energy: for a classifier that would be too weak."""
    rng = np.random.default_rng(0)
    real, fake = 0.1 + rng.normal(0, 0.005, 60), 0.3 + rng.normal(0, 0.01, 60)
    columns = {
        "score/real": real,
        "score/fake": fake,
        "loss/discriminator": real,
        "diversity": real + 0.6,
    }
    assert of(tmp_path, rows_of(columns)).verdict == "discriminator-too-weak"
    balanced = {**columns, "began/k": np.linspace(0, 0.2, 60), "began/m_global": real}
    assert of(tmp_path, rows_of(balanced)).verdict == "healthy"
    stuck = {**balanced, "began/k": np.zeros(60)}
    assert of(tmp_path, rows_of(stuck)).verdict == "discriminator-too-strong"


def test_an_objective_in_the_config_says_what_its_loss_means(tmp_path) -> None:
    """Smoothed labels: the loss of a perfect discriminator is H(0.9) = 0.325, not 0."""
    rows = strong(np.random.default_rng(0), 80)
    for row in rows:
        row["loss/discriminator"] += 0.335
    (tmp_path / "config.yaml").write_text(CONFIG.replace("real_target: 1.0", "real_target: 0.9"))
    assert of(tmp_path, rows).verdict == "discriminator-too-strong"


@pytest.mark.parametrize(
    "name", [n for n, (k, _) in FAILING.items() if "vae" not in n and n != "nan"]
)
def test_remedies_are_valid_settings_with_the_numbers_of_the_run(name, tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    for finding in of(tmp_path, FAILING[name][1](np.random.default_rng(1), 100)).findings:
        settings = re.findall(r"--set (\S+?)(?=[;,]?(?:\s|$))", finding.remedy)
        assert settings
        load_config(str(config), settings)  # raises for an unknown key or a wrong type
        for setting in settings:
            path, _, value = setting.partition("=")
            if path == "optim.discriminator.lr":
                assert float(value) in {2e-4, 1e-4, 1.2e-4, 1.2e-3}


def test_rates_come_from_the_log_where_there_is_no_config(tmp_path) -> None:
    rows = strong(np.random.default_rng(0), 60)
    for i, row in enumerate(rows):
        row["lr/discriminator"] = 0.008 / (1 + i)
    (finding,) = of(tmp_path, rows).findings
    assert "--set optim.discriminator.lr=0.002" in finding.remedy


def test_a_damaged_config_is_no_obstacle(tmp_path) -> None:
    rows = strong(np.random.default_rng(0), 60)
    for text in ("model: [", "model: 3\noptim: x\n", "model: {objective: {kind: from-the-future}}"):
        tmp_path.mkdir(exist_ok=True)
        (tmp_path / "config.yaml").write_text(text)
        assert of(tmp_path, rows).verdict == "discriminator-too-strong"
