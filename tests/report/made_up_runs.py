"""Logs as failing and healthy runs write them, made up by formula: what the diagnosis is tested on.

Each maker takes a random generator and a number of rows, and returns rows of ``metrics.jsonl``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]


def rows_of(columns: dict[str, np.ndarray], every: int = 100) -> Rows:
    n = len(next(iter(columns.values())))
    return [
        {"step": 1 if i == 0 else i * every, "images": i * every * 64, "seconds": i * 3.1}
        | {key: float(column[i]) for key, column in columns.items()}
        for i in range(n)
    ]


def write(folder: Path, rows: Rows) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wander(rng: np.random.Generator, n: int, size: float, memory: float = 0.7) -> np.ndarray:
    """Noise with a memory, as averages over log windows have it; its deviation is ``size``."""
    noise = rng.normal(0, size * np.sqrt(1 - memory**2), n)
    out = np.zeros(n)
    out[0] = rng.normal(0, size)
    for i in range(1, n):
        out[i] = memory * out[i - 1] + noise[i]
    return out


def sigmoid_game(
    real_logit: np.ndarray, fake_logit: np.ndarray, diversity: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The log of a classifying discriminator whose logits have deviation 1 around these means."""
    n = len(real_logit)
    draws = rng.normal(0, 1, (512, 1))
    real, fake = real_logit + draws, fake_logit + draws
    soft = lambda v: np.logaddexp(0, v)  # noqa: E731
    return {
        "loss/discriminator": (soft(-real) + soft(fake)).mean(0),
        "loss/generator": soft(-fake).mean(0),
        "score/real": (1 / (1 + np.exp(-real))).mean(0),
        "score/fake": (1 / (1 + np.exp(-fake))).mean(0),
        "accuracy/discriminator": ((real > 0).mean(0) + (fake < 0).mean(0)) / 2,
        "grad_norm/discriminator": np.exp(rng.normal(0, 0.3, n)),
        "grad_norm/generator": np.exp(rng.normal(0, 0.3, n)),
        "diversity": diversity * np.exp(rng.normal(0, 0.03, n)),
    }


def ramp(n: int, start: float, end: float, within: float = 0.3) -> np.ndarray:
    """From one value to another in the first part, then level."""
    return start + (end - start) * np.minimum(1, np.arange(n) / (within * n))


# --- healthy ------------------------------------------------------------------------------------
def dcgan(rng: np.random.Generator, n: int) -> Rows:
    ahead = rng.uniform(0.8, 2.0)
    logits = ramp(n, 0.1, ahead) + wander(rng, n, 0.25)
    diversity = ramp(n, 0.3, rng.uniform(0.8, 1.0), 0.1)
    return rows_of(sigmoid_game(logits, -logits + wander(rng, n, 0.2), diversity, rng))


def dcgan_at_equilibrium(rng: np.random.Generator, n: int) -> Rows:
    logits = np.full(n, 0.15) + wander(rng, n, 0.05)
    columns = sigmoid_game(logits, -logits, ramp(n, 0.5, 0.95, 0.1), rng)
    # Logits that hardly vary: σ is 0.5 and the loss 2 log 2 up to noise on both sides.
    columns["loss/discriminator"] = 1.375 + wander(rng, n, 0.012)
    return rows_of(columns)


def dcgan_just_begun(rng: np.random.Generator, n: int) -> Rows:
    logits = 1.2 + wander(rng, n, 0.3)
    return rows_of(sigmoid_game(logits, -logits, np.linspace(0.01, 0.3, n) ** 1.2, rng))


def hinge(rng: np.random.Generator, n: int) -> Rows:
    a = ramp(n, 0.05, rng.uniform(0.2, 0.9)) + wander(rng, n, 0.1)
    draws = rng.normal(0, 0.6, (512, 1))
    real, fake = a + draws, -a + draws
    return rows_of(
        {
            "loss/discriminator": (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)).mean(0),
            "loss/generator": -fake.mean(0),
            "score/real": (1 / (1 + np.exp(-real))).mean(0),
            "score/fake": (1 / (1 + np.exp(-fake))).mean(0),
            "accuracy/discriminator": ((real > 0).mean(0) + (fake < 0).mean(0)) / 2,
            "grad_norm/discriminator": np.exp(rng.normal(0, 0.3, n)),
            "grad_norm/generator": np.exp(rng.normal(-2, 0.3, n)),
            "diversity": ramp(n, 0.2, 0.9, 0.1),
        }
    )


def least_squares(rng: np.random.Generator, n: int) -> Rows:
    a = ramp(n, 0.55, rng.uniform(0.6, 0.85)) + wander(rng, n, 0.03)
    spread = 0.04
    return rows_of(
        {
            "loss/discriminator": (a - 1) ** 2 + (1 - a) ** 2 + 2 * spread,
            "loss/generator": a**2 + spread,
            "score/real": a,
            "score/fake": 1 - a,
            "accuracy/discriminator": np.clip(a, 0, 1),
            "grad_norm/discriminator": np.exp(rng.normal(0, 0.3, n)),
            "grad_norm/generator": np.exp(rng.normal(0, 0.3, n)),
            "diversity": ramp(n, 0.2, 0.95, 0.1),
        }
    )


def wgan(rng: np.random.Generator, n: int) -> Rows:
    gap = 25 * np.exp(-np.arange(n) / (0.3 * n)) + 4
    gap[: max(1, n // 20)] *= np.linspace(0.02, 1, max(1, n // 20))
    gap *= np.exp(rng.normal(0, 0.1, n))
    drift = np.cumsum(rng.normal(0, 3, n))
    return rows_of(
        {
            "loss/discriminator": -gap + 0.5,
            "loss/generator": drift,
            "wasserstein": gap,
            "score/real": gap - drift,
            "score/fake": -drift,
            "grad_norm/discriminator": np.exp(rng.normal(1, 0.4, n)),
            "grad_norm/generator": np.exp(rng.normal(0, 0.5, n)),
            "diversity": ramp(n, 0.1, 0.97, 0.1),
        }
    )


def began(rng: np.random.Generator, n: int) -> Rows:
    real = 0.05 + 0.3 * np.exp(-np.arange(n) / (0.15 * n)) + wander(rng, n, 0.002)
    fake = 0.5 * real * np.exp(wander(rng, n, 0.05))
    k = np.clip(np.linspace(-0.02, 0.15, n) + wander(rng, n, 0.005), 0, 1)
    return rows_of(
        {
            "loss/discriminator": real - k * fake,
            "loss/generator": fake,
            "score/real": real,
            "score/fake": fake,
            "began/k": k,
            "began/m_global": real + abs(0.5 * real - fake),
            "grad_norm/discriminator": 0.02 * np.exp(rng.normal(0, 0.4, n)),
            "grad_norm/generator": 0.01 * np.exp(rng.normal(0, 0.4, n)),
            "diversity": ramp(n, 0.15, 0.7, 0.3),
        }
    )


def vae(rng: np.random.Generator, n: int) -> Rows:
    loss = 100 + 440 * np.exp(-np.arange(n) / (0.07 * n)) + rng.normal(0, 0.8, n)
    return rows_of({"loss/model": loss, "grad_norm/model": 60 * np.exp(rng.normal(0, 0.2, n))})


def flow(rng: np.random.Generator, n: int) -> Rows:
    loss = 1100 - 3500 * (1 - np.exp(-np.arange(n) / (0.4 * n))) + rng.normal(0, 20, n)
    return rows_of({"loss/model": loss, "grad_norm/model": 900 * np.exp(rng.normal(0, 0.5, n))})


def vae_with_held_out(rng: np.random.Generator, n: int) -> Rows:
    loss = 100 + 440 * np.exp(-np.arange(n) / (0.07 * n))
    held = loss + 2 + rng.normal(0, 0.5, n)
    return rows_of({"loss/model": loss + rng.normal(0, 0.5, n), "loss/model/held_out": held})


HEALTHY: dict[str, Callable[[np.random.Generator, int], Rows]] = {
    "dcgan": dcgan,
    "dcgan-at-equilibrium": dcgan_at_equilibrium,
    "dcgan-just-begun": dcgan_just_begun,
    "hinge": hinge,
    "least-squares": least_squares,
    "wgan": wgan,
    "began": began,
    "vae": vae,
    "flow": flow,
    "vae-with-held-out": vae_with_held_out,
}


# --- failing ------------------------------------------------------------------------------------
def strong(rng: np.random.Generator, n: int) -> Rows:
    logits = np.linspace(0.5, rng.uniform(6, 14), n) + wander(rng, n, 0.3)
    return rows_of(sigmoid_game(logits, -logits, np.full(n, 0.6), rng))


def strong_minimax(rng: np.random.Generator, n: int) -> Rows:
    logits = ramp(n, 0.5, 9.0) + wander(rng, n, 0.3)
    columns = sigmoid_game(logits, -logits, np.full(n, 0.05), rng)  # noise, and stays noise
    columns["loss/generator"] = -np.logaddexp(0, -logits)
    columns["grad_norm/generator"] *= 1e-3
    return rows_of(columns)


def weak(rng: np.random.Generator, n: int) -> Rows:
    logits = ramp(n, 0.4, -rng.uniform(0.4, 1.5)) + wander(rng, n, 0.1)
    return rows_of(sigmoid_game(logits, -logits, np.full(n, 0.8), rng))


def weak_by_loss(rng: np.random.Generator, n: int) -> Rows:
    columns = sigmoid_game(np.full(n, 0.02), np.full(n, -0.02), np.full(n, 0.8), rng)
    columns["loss/discriminator"] = ramp(n, 1.38, rng.uniform(1.5, 2.2)) + wander(rng, n, 0.03)
    del columns["score/real"], columns["score/fake"], columns["accuracy/discriminator"]
    return rows_of(columns)


def collapsed(rng: np.random.Generator, n: int) -> Rows:
    logits = 1.2 + wander(rng, n, 0.4)
    diversity = np.where(np.arange(n) < rng.uniform(0.3, 0.6) * n, 0.85, rng.uniform(0.01, 0.05))
    return rows_of(sigmoid_game(logits, -logits, diversity, rng))


def collapsed_wgan(rng: np.random.Generator, n: int) -> Rows:
    rows = wgan(rng, n)
    for i, row in enumerate(rows):
        row["diversity"] = 0.9 * np.exp(-6 * i / n) + 0.01
    return rows


def oscillating(rng: np.random.Generator, n: int) -> Rows:
    period = rng.uniform(4, max(5, n / 5))
    wave = np.sin(2 * np.pi * np.arange(n) / period + rng.uniform(0, 6))
    logits = 0.8 + 1.8 * wave + wander(rng, n, 0.3)
    other = -0.8 + 1.8 * np.roll(wave, int(period / 4)) + wander(rng, n, 0.3)
    return rows_of(sigmoid_game(logits, other, 0.5 + 0.25 * wave, rng))


def diverging(rng: np.random.Generator, n: int) -> Rows:
    rows = dcgan(rng, n)
    for i, row in enumerate(rows):
        blow = np.exp(rng.uniform(0.95, 1.05) * 12 * max(0, i / n - 0.4))
        for key in ("loss/discriminator", "loss/generator", "grad_norm/discriminator"):
            row[key] *= float(blow)
    return rows


def diverging_critic(rng: np.random.Generator, n: int) -> Rows:
    size = np.exp(np.linspace(0, 13, n)) * np.exp(rng.normal(0, 0.1, n))
    columns = {"wasserstein": size, "loss/discriminator": -size, "loss/generator": 3 * size}
    return rows_of(columns | {"grad_norm/discriminator": size})


def diverging_vae(rng: np.random.Generator, n: int) -> Rows:
    rows = vae(rng, n)
    for i, row in enumerate(rows):
        row["loss/model"] += float(np.exp(18 * max(0, i / n - 0.45)) - 1)
    return rows


def nan_run(rng: np.random.Generator, n: int) -> Rows:
    rows = vae(rng, n)
    for row in rows[-3:]:
        row |= {"loss/model": None, "grad_norm/model": None}
        row["nonfinite"] = ["loss/model", "grad_norm/model"]
    return rows


def stalled(rng: np.random.Generator, n: int) -> Rows:
    columns = sigmoid_game(np.zeros(n), np.zeros(n), np.full(n, 0.6), rng)
    tiny = 1e-3 * rng.normal(0, 1, n)
    columns |= {
        "loss/discriminator": 1.3863 + tiny,
        "loss/generator": 0.6931 + tiny / 2,
        "score/real": 0.5 + tiny,
        "score/fake": 0.5 - tiny,
    }
    fading = np.maximum(1e-6, np.exp(-np.arange(n) / (0.04 * n)))
    columns["grad_norm/discriminator"] = columns["grad_norm/discriminator"] * fading
    columns["grad_norm/generator"] = columns["grad_norm/generator"] * fading
    return rows_of(columns)


def stalled_critic(rng: np.random.Generator, n: int) -> Rows:
    fading = np.maximum(1e-7, np.exp(-np.arange(n) / (0.03 * n)))
    columns = {
        "wasserstein": fading,
        "loss/discriminator": -fading,
        "loss/generator": 0 * fading + 2,
    }
    return rows_of(columns | {"grad_norm/discriminator": fading, "grad_norm/generator": fading})


def memorising_vae(rng: np.random.Generator, n: int) -> Rows:
    x = np.arange(n) / n
    loss = 100 - 40 * x + 440 * np.exp(-x / 0.07) + rng.normal(0, 0.5, n)
    held = 105 + 440 * np.exp(-x / 0.07) + 60 * np.maximum(0, x - 0.3) + rng.normal(0, 0.5, n)
    return rows_of({"loss/model": loss, "loss/model/held_out": held})


def memorising_soon(rng: np.random.Generator, n: int) -> Rows:
    """Held-out loss soon stands still, and does not rise, while the training loss goes to zero."""
    x = np.arange(n) / n
    loss = 2.3 * np.exp(-x / 0.05) * np.exp(rng.normal(0, 0.05, n)) + 0.05 * (1 - x)
    held = 0.4 + 1.9 * np.exp(-x / 0.05) + rng.normal(0, 0.02, n)
    return rows_of({"loss/model": loss, "loss/model/held_out": held})


def memorising_at_last(rng: np.random.Generator, n: int) -> Rows:
    """Held-out loss climbs to many times what it was."""
    rows = memorising_vae(rng, n)
    for i, row in enumerate(rows):
        row["loss/model/held_out"] += float(2000 * max(0.0, i / n - 0.4))
    return rows


def left_behind(rng: np.random.Generator, n: int) -> Rows:
    """A critic without bound against a generator that does not move."""
    gap = np.linspace(0.1, 60, n) * np.exp(rng.normal(0, 0.05, n))
    return rows_of(
        {
            "loss/discriminator": -gap,
            "loss/generator": gap / 4,
            "wasserstein": gap,
            "score/real": 3 * gap / 4,
            "score/fake": -gap / 4,
            "grad_norm/discriminator": np.exp(rng.normal(0, 0.3, n)),
            "grad_norm/generator": np.exp(rng.normal(0, 0.3, n)),
            "diversity": 0.16 * np.exp(rng.normal(0, 0.01, n)),
        }
    )


def wandering(rng: np.random.Generator, n: int) -> Rows:
    """Samples that move from mode to mode together, at no regular times."""
    logits = 0.4 + wander(rng, n, 0.1)
    size = np.zeros(n)
    for i in range(n):
        size[i] = (0.8 * size[i - 1] if i else 0.0) + rng.normal(0, 0.3)
    diversity = np.clip(0.25 * np.exp(size), 0.06, 0.7)
    return rows_of(sigmoid_game(logits, -logits, diversity, rng))


def memorising_discriminator(rng: np.random.Generator, n: int) -> Rows:
    rows = dcgan(rng, n)
    for i, row in enumerate(rows):
        share = min(1.0, 2 * i / n)
        row["score/held_out"] = row["score/real"] + share * (row["score/fake"] - row["score/real"])
    return rows


FAILING: dict[str, tuple[str, Callable[[np.random.Generator, int], Rows]]] = {
    "strong": ("discriminator-too-strong", strong),
    "strong-minimax": ("discriminator-too-strong", strong_minimax),
    "weak": ("discriminator-too-weak", weak),
    "weak-by-loss": ("discriminator-too-weak", weak_by_loss),
    "collapsed": ("mode-collapse", collapsed),
    "collapsed-wgan": ("mode-collapse", collapsed_wgan),
    "oscillating": ("oscillation", oscillating),
    "diverging": ("divergence", diverging),
    "diverging-critic": ("divergence", diverging_critic),
    "diverging-vae": ("divergence", diverging_vae),
    "nan": ("divergence", nan_run),
    "stalled": ("stalled", stalled),
    "stalled-critic": ("stalled", stalled_critic),
    "memorising-vae": ("memorising", memorising_vae),
    "memorising-soon": ("memorising", memorising_soon),
    "memorising-at-last": ("memorising", memorising_at_last),
    "left-behind": ("discriminator-too-strong", left_behind),
    "wandering": ("mode-collapse", wandering),
    "memorising-discriminator": ("memorising", memorising_discriminator),
}
