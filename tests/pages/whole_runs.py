"""Run directories with everything a report reads, made up: nothing is trained."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from genctl.config.load import load_config, to_yaml
from genctl.config.schema import Found

INJECTION = (
    '</script><img src=x onerror="window.pwned=1"><script>window.pwned=2</script>\'"&{{7*7}}'
)
"""What a name would be that wants to act on a page."""


def made_run(
    folder: Path, *, rows: int = 30, previews: int = 4, text: str = "", seed: int = 0
) -> Path:
    """A run of ``dcgan-mnist`` whose diversity collapses in its second half.

    Args:
        folder: where.
        rows: of its log.
        previews: pictures, one every 100 steps, of rising brightness.
        text: put into every place that a stranger can write to.
    """
    config = load_config(
        "dcgan-mnist", {"train.steps": 100 * rows, "train.seed": seed, "optim.generator.lr": 0.001}
    )
    found = Found(
        kind="image",
        shape=[1, 28, 28],
        classes=2,
        class_names=["a", text or "b"],
        examples=60000,
        fingerprint="f" * 32,
    )
    about = {**config.about, "summary": f"digits {text}", "paper": f"arXiv:1511.06434 {text}"}
    data = config.data.model_copy(update={"spec": f"mnist:ROOT{text}"})
    config = config.model_copy(update={"found": found, "about": about, "data": data})
    (folder / "samples").mkdir(parents=True)
    (folder / "reports").mkdir()
    (folder / "config.yaml").write_text(to_yaml(config))
    command = ["__main__.py", "train", "--preset", "dcgan-mnist", "--data", f"mnist:my data{text}"]
    environment = {"genctl": "0.1.0", "packages": {"torch": text or "2.11"}, "command": command}
    (folder / "environment.json").write_text(json.dumps(environment))
    with (folder / "metrics.jsonl").open("w") as file:
        for i in range(rows):
            row = {
                "step": 100 * (i + 1),
                "images": 6400 * (i + 1),
                "seconds": 2.0 * (i + 1),
                "loss/discriminator": 1.1 + 0.05 * (-1) ** i,
                "loss/generator": 0.9 + seed,
                "score/real": 0.6,
                "score/fake": 0.4,
                "grad_norm/generator": 10.0 ** (i % 4),
                "diversity": 0.9 if i < rows / 2 else 0.02,
                **({f"own/{text}": float(i)} if text else {}),
            }
            file.write(json.dumps(row) + "\n")
    for i in range(previews):
        shade = Image.new("L", (64, 64), min(255, 3 * i + 40))
        shade.save(folder / "samples" / f"step-{100 * (i + 1):08d}.png")
    name = f"evaluate-{100 * rows:08d}-classifier"
    score = {
        "generated": str(folder),
        "real": f"mnist:ROOT@test{text}",
        "n_generated": 5000,
        "n_real": 5000,
        "features": "classifier",
        "protocol": {"extractor": f"a classifier {text}", "resize": "none", "n": 5000},
        "metrics": {
            "fd": {"value": 23.396033},
            "is": {"mean": 8.25, "std": 0.125, "splits": 10},
            "kid": {"value": None, "reason": f"too few {text}"},
            "prd": {
                "f8": 0.9,
                "f1_8": 0.8,
                "f1": 0.7,
                "curve": {"precision": [0.0, 0.8, 0.9], "recall": [1.0, 0.8, 0.0]},
            },
            "memorization": {
                "copies": 0.125,
                "threshold": 0.5,
                "nearest": [{"generated": 3, "training": [5, 7], "distances": [0.25, 0.75]}],
                "picture": f"elsewhere/{name}-memorization.png",
            },
        },
        "warnings": [f"careful {text}"] if text else [],
        "gates": [],
    }
    (folder / "reports" / f"{name}.json").write_text(json.dumps(score))
    Image.new("L", (90, 30), 128).save(folder / "reports" / f"{name}-memorization.png")
    return folder


def noise(folder: Path, count: int, edge: int) -> None:
    """Previews that no format compresses."""
    draws = np.random.default_rng(0)
    for i in range(count):
        pixels = draws.integers(0, 256, (edge, edge, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"step-{i + 1:08d}.png")


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, and the text of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        self.texts.setdefault(tag, []).append("")
        self.open.append(tag)

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]
