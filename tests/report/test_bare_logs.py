"""The diagnosis of a ``metrics.jsonl`` alone: few keys, other programs' keys, no known key at all."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from made_up_runs import HEALTHY, rows_of, wander, write

from genctl.report.curves import read_curves
from genctl.report.diagnosis import Diagnosis, diagnose
from genctl.report.game import read_game

N = 60
X = np.linspace(0, 1, N)
NEAR = 0.5 * np.exp(-8 * X)
"""How far a score is from the end that it goes to."""


def noise(size: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, N)


def of(tmp_path, columns: dict[str, np.ndarray]) -> Diagnosis:
    rows = rows_of(columns)
    for row in rows:
        for key, value in row.items():
            if value != value:
                row[key] = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return diagnose(read_curves(write(tmp_path, rows)))


EXTREMES = {
    "scores": {"score/real": 1 - NEAR, "score/fake": NEAR},
    "scores-on-their-way": {"score/real": 0.5 + X / 2, "score/fake": 0.5 - X / 2},
    "accuracy": {"accuracy/discriminator": 1 - NEAR},
    "scores-and-accuracy": {
        "score/real": 1 - NEAR,
        "score/fake": NEAR,
        "accuracy/discriminator": 1 - NEAR,
    },
    "scores-and-a-flat-loss": {
        "score/real": 1 - NEAR,
        "score/fake": NEAR,
        "loss/generator": 7 + noise(0.05),
    },
    "logits": {
        "score/real": 20 * X**0.3,
        "score/fake": -20 * X**0.3,
        "loss/discriminator": 1e-4 + 1.386 * np.exp(-20 * X),
        "loss/generator": 20 * X,
    },
    "logits-from-the-start": {
        "score/real": 20 + noise(1.0),
        "score/fake": -20 + noise(1.0, 1),
        "loss/discriminator": np.full(N, 1e-4),
        "loss/generator": 20 * X,
    },
    "losses": {"loss/discriminator": 0.01 + 1.3 * np.exp(-9 * X), "loss/generator": 0.7 + 7 * X},
}


@pytest.mark.parametrize("name", EXTREMES)
def test_signals_at_their_extremes_are_evidence_by_themselves(name, tmp_path) -> None:
    assert of(tmp_path, EXTREMES[name]).verdict == "discriminator-too-strong"


ORDINARY = {
    "accuracy": {"accuracy/discriminator": 0.98 + noise(0.005)},
    "scores": {"score/real": 0.85 + noise(0.02), "score/fake": 0.15 + noise(0.02, 1)},
    "losses": {"loss/discriminator": 1.1 + noise(0.1), "loss/generator": 0.9 + noise(0.1, 1)},
    "hinge": {
        "loss/discriminator": 1.7 + 0.3 * np.exp(-9 * X) + noise(0.03),
        "loss/generator": 0.1 * X + noise(0.03, 1),
    },
    "least-squares": {
        "loss/discriminator": 0.1 + 0.3 * np.exp(-9 * X) + noise(0.01),
        "loss/generator": 0.3 + noise(0.02, 1),
    },
    "critic": {
        "loss/discriminator": -5 * np.exp(-3 * X) - 0.3 + noise(0.1),
        "loss/generator": 3 * X + noise(0.3, 1),
    },
    "generator": {"loss/generator": 0.1 + 1.4 * X + noise(0.05)},
    "diversity": {"diversity": 0.8 + noise(0.05)},
    "norms": {"grad_norm/generator": np.exp(noise(0.3))},
}


@pytest.mark.parametrize("name", ORDINARY)
def test_a_few_ordinary_signals_are_healthy(name, tmp_path) -> None:
    (finding,) = of(tmp_path, ORDINARY[name]).findings
    assert finding.kind == "healthy"
    assert all(key in finding.evidence for key in ORDINARY[name])
    assert finding.confidence < 0.7


def losses_of(kind: str, real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    softplus = lambda v: np.logaddexp(0, v)  # noqa: E731
    return {
        "cross-entropy": softplus(-real) + softplus(fake),
        "hinge": np.maximum(0, 1 - real) + np.maximum(0, 1 + fake),
        "least-squares": (real - 1) ** 2 + fake**2,
        "jensen-shannon": softplus(-real) + softplus(fake) - 2 * np.log(2),
        "hellinger": np.exp(-real) + np.exp(fake) - 2,
        "kl": -real + np.exp(fake - 1),
        "wasserstein": fake - real,
    }[kind]


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(
    ("kind", "equilibrium", "floor"),
    [
        ("cross-entropy", 2 * np.log(2), 0),
        ("hinge", 2, 0),
        ("least-squares", 0.5, 0),
        ("jensen-shannon", 0, -2 * np.log(2)),
        ("hellinger", 0, -2),
        ("kl", None, 0),
        ("wasserstein", None, 0),
    ],
)
def test_an_objective_is_recognised_by_its_numbers(kind, equilibrium, floor, share, tmp_path):
    rng = np.random.default_rng(0)
    real = 1.4 * X + wander(rng, N, 0.1)
    fake = -1.6 * X + wander(rng, N, 0.1)
    loss = losses_of(kind, real, fake) + noise(0.01)
    columns = {"score/real": real, "score/fake": fake, "loss/discriminator": share * loss}
    game = read_game(read_curves(write(tmp_path, rows_of(columns))))
    assert game.kind == "critic"  # values, with or without a floor
    if equilibrium is None:
        assert game.equilibrium is None
    else:
        assert game.equilibrium == pytest.approx(share * equilibrium, abs=1e-3)
        assert game.floor == pytest.approx(share * floor, abs=1e-3)


def test_scores_that_agree_with_no_objective_are_values_only(tmp_path) -> None:
    columns = {"score/real": 3 + noise(0.1), "score/fake": -2 + noise(0.1, 1)}
    columns["loss/discriminator"] = 40 + noise(3.0, 2)
    game = read_game(read_curves(write(tmp_path, rows_of(columns))))
    assert (game.kind, game.equilibrium) == ("critic", None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("loss_d", "loss_g"),
        ("d_loss", "g_loss"),
        ("D_loss", "G_loss"),
        ("Loss_D", "Loss_G"),
        ("lossD", "lossG"),
        ("errD", "errG"),
        ("train/d_loss", "train/g_loss"),
        ("loss/d", "loss/g"),
        ("discriminator_loss", "generator_loss"),
    ],
)
def test_other_names_of_the_losses_are_known(first, second, tmp_path) -> None:
    strong = EXTREMES["losses"]
    columns = {first: strong["loss/discriminator"], second: strong["loss/generator"]}
    (finding,) = of(tmp_path, columns).findings
    assert finding.kind == "discriminator-too-strong"
    assert first in finding.evidence  # the log's own name
    assert second in finding.evidence
    assert "loss/discriminator" not in finding.evidence.replace(first, "")


@pytest.mark.parametrize("name", ["loss", "train/loss", "train_loss", "Loss", "training_loss"])
def test_other_names_of_a_single_loss_are_known(name, tmp_path) -> None:
    falling = 3 * np.exp(-5 * X) + 1 + noise(0.02)
    assert of(tmp_path, {name: falling}).verdict == "healthy"
    assert of(tmp_path, {name: np.exp(12 * X)}).verdict == "divergence"
    held = falling + 1.5 * np.maximum(0, X - 0.3)
    found = of(tmp_path, {name: falling - X, "val_loss": held})
    assert found.verdict == "memorising"
    assert "val_loss" in found.findings[0].evidence


def test_a_name_that_two_signals_claim_is_left_alone(tmp_path) -> None:
    columns = {"loss_d": X, "d_loss": X + 1}
    (finding,) = of(tmp_path, columns).findings
    assert finding.kind == "too-short"


@pytest.mark.parametrize(
    "columns",
    [{}, {"a": X, "b": -X}, {"epoch": 100 * X}, {"psnr": 20 + 5 * X}],
    ids=["clock", "unknown", "counter", "psnr"],
)
def test_where_nothing_is_known_nothing_is_healthy(columns, tmp_path) -> None:
    (finding,) = of(tmp_path, columns or {"seconds": X}).findings
    assert finding.kind == "too-short"
    assert "none of its signals is one that can be read" in finding.evidence
    for key in columns or {"seconds": X}:
        assert key in finding.evidence
    assert "loss/PLAYER" in finding.remedy


def test_an_unknown_signal_that_multiplies_itself_has_diverged(tmp_path) -> None:
    for name in ("what", "train/nll/total"):
        found = of(tmp_path, {name: np.exp(12 * X)})
        assert found.verdict == "divergence"
        assert name in found.findings[0].evidence
    assert of(tmp_path, {"loss": 1 + noise(0.1), "tokens": np.exp(12 * X)}).verdict == "healthy"
    assert of(tmp_path, {"loss": 1 + noise(0.1), "loss_scale": np.exp(12 * X)}).verdict == "healthy"
    assert of(tmp_path, {"loss": 1 + noise(0.1), "seen": 1e6 * X}).verdict == "healthy"


def test_an_unknown_signal_that_is_not_finite_has_diverged(tmp_path) -> None:
    rows = rows_of({"what": X})
    for row in rows[-4:]:
        row["what"] = float("nan")
    assert diagnose(read_curves(write(tmp_path, rows))).verdict == "divergence"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_wasserstein_estimate_that_rises_to_the_end_diverges_on_any_scale(scale, tmp_path):
    gap = scale * (0.5 + 199.5 * X) * np.exp(noise(0.05))
    columns = {"wasserstein": gap, "score/real": gap, "score/fake": 0 * gap}
    found = of(tmp_path, columns)
    assert found.verdict == "divergence"
    assert "wasserstein" in found.findings[0].evidence
    rested = scale * 200 * (1 - np.exp(-20 * X)) * np.exp(noise(0.05))
    assert of(tmp_path, {**columns, "wasserstein": rested}).verdict == "healthy"
    still = {**columns, "diversity": 0.16 * np.exp(noise(0.01, 1))}
    assert of(tmp_path, still).verdict == "discriminator-too-strong"


def test_holes_to_the_end_are_no_warning(tmp_path) -> None:
    """``of`` makes errors of warnings."""
    for after in (0.1, 0.5, 0.9):
        holes = {
            key: np.where(after < X, np.nan, 1 + noise(0.1))
            for key in ("loss/model", "loss/discriminator", "score/real", "diversity", "x")
        }
        assert of(tmp_path, holes).verdict == "divergence"
        only = {key: column for key, column in holes.items() if not key.startswith("loss/")}
        of(tmp_path, only | {"wasserstein": holes["x"]})


KEYS = (
    "loss/discriminator",
    "loss/generator",
    "loss/model",
    "loss/model/held_out",
    "score/real",
    "score/fake",
    "score/held_out",
    "accuracy/discriminator",
    "diversity",
    "wasserstein",
    "began/k",
    "grad_norm/generator",
    "other",
)


def test_any_holes_in_any_keys_are_diagnosed_without_a_warning(tmp_path) -> None:
    for seed in range(150):
        rng = np.random.default_rng(seed)
        keys = rng.choice(KEYS, int(rng.integers(1, 8)), replace=False)
        size = 10.0 ** rng.uniform(-8, 20)
        kept = rng.uniform(0, 1)
        columns = {
            key: np.where(rng.random(N) < kept, size * rng.normal(rng.normal(), 1, N), np.nan)
            for key in keys
        }
        assert of(tmp_path, columns).findings


@pytest.mark.parametrize("name", HEALTHY)
def test_any_subset_of_a_healthy_log_is_left_alone(name, tmp_path) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = HEALTHY[name](rng, 60)
        keys = [key for key in rows[0] if key not in ("step", "images", "seconds")]
        kept = {key for key in keys if rng.random() < 0.5} or set(keys[:1])
        few = [{k: v for k, v in row.items() if k == "step" or k in kept} for row in rows]
        found = diagnose(read_curves(write(tmp_path, few)))
        assert found.verdict == "healthy", (kept, found)
