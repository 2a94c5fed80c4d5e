"""An ensemble: the mean of what several runs think of an example names it better than one alone.

Runs may be of any kind that classifies: a classifier, or a semi-supervised GAN. Here three small
ones learn from 50 labels each, chosen by their seeds; the held-out examples are new to all.
"""

import sys
from pathlib import Path

import torch

import genctl
from genctl.data.dataset import open_dataset
from genctl.data.loader import evaluation_batches


def errors(runs: list, data: str) -> int:
    """How many examples the mean of the runs' probabilities names wrongly."""
    wrong = 0
    with torch.inference_mode():
        for batch in evaluation_batches(open_dataset(data), 500, runs[0].device):
            votes = torch.stack([run.model.classify(batch.x).softmax(1) for run in runs])
            wrong += int((votes.mean(0).argmax(1) != batch.y).sum())
    return wrong


def main(out: Path) -> tuple[list[int], int]:
    runs = []
    for seed in range(3):
        changes = {"model.labels": 50, "model.network.width": 8}
        changes |= {"train.steps": 40, "train.batch_size": 50}
        config = genctl.load_config("classifier", {**changes, "train.seed": seed})
        runs.append(genctl.open_run(genctl.fit(config, "digits", out / f"run-{seed}").run))
    alone = [errors([run], "digits@test") for run in runs]
    together = errors(runs, "digits@test")
    print(f"errors alone {alone}, together {together}")
    return alone, together


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/ensemble"))
