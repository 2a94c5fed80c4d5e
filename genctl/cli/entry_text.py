"""How the larger entries of an evaluation are written in a terminal, and words for numbers read."""

from __future__ import annotations

from typing import Any, Literal

from genctl.errors import UsageError


def whole_numbers(text: str, option: str) -> list[int]:
    """``"100,1000"`` → [100, 1000].

    Raises:
        UsageError: something else than whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        reason = "expected whole numbers with commas between"
        raise UsageError(f"{option} {text}", reason, f"{option} 100,1000") from None


def edge_of(size: str) -> int | Literal["native"]:
    """``"64"`` → 64.

    Raises:
        UsageError: neither ``native`` nor a whole number.
    """
    if size == "native":
        return "native"
    if not (size.isascii() and size.isdigit()):
        raise UsageError(f"--size {size}", "expected native or a number of pixels", "--size 64")
    return int(size)


def own_words(entry: dict[str, Any]) -> str | None:
    """A measure's entry in words where one number would not do; None: it needs no words."""
    for mark, words in (("auroc", _anomaly), ("recall_error", _manifold), ("rows", _probe)):
        if mark in entry:
            return words(entry)
    if "ceiling" in entry:
        real = "" if entry["ceiling"] is None else f" (real examples: {entry['ceiling']:.6g})"
        return f"{entry['value']:.6g}{real}"
    return None


def _anomaly(entry: dict[str, Any]) -> str:
    interval = "" if entry["low"] is None else f" [{entry['low']:.3f}, {entry['high']:.3f}]"
    return (
        f"AUROC {entry['auroc']:.4f}{interval} by {entry['by']}, average precision "
        f"{entry['average_precision']:.4f} (chance {entry['chance_precision']:.3f}), "
        f"{entry['n_normal']} normal and {entry['n_anomalous']} anomalous"
    )


def _manifold(entry: dict[str, Any]) -> str:
    recall = "none" if entry["recall"] is None else f"{entry['recall']:.1%}"
    both = "" if entry["f1"] is None else f", F1 {entry['f1']:.3f}"
    return f"precision {entry['precision']:.1%}, recall {recall}{both} at δ = {entry['delta']:g}"


def _probe(entry: dict[str, Any]) -> str:
    lines = [f"test error of {entry['n_test']} examples; model: its {entry['of']} features"]
    for row in entry["rows"]:
        spread = "" if row["std"] is None else f" ± {row['std']:.2%}"
        name = f"{row['features']}, {row['classifier']}, {row['labels']} labels"
        lines.append(f"    {name:<40} {row['mean']:.2%}{spread}")
    return "\n".join(lines)
