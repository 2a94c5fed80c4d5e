"""A new loss is one class: register it, name it in a preset or with --set, train."""

import sys
from pathlib import Path

from torch import Tensor
from torch.nn.functional import relu

import genctl
from genctl.registry import register


@register("objective", "squared-hinge")
class SquaredHinge:
    """Margins as in a support vector machine with squared slack; high scores mean real."""

    output = "value"

    def __init__(self, *, margin: float = 1.0) -> None:
        self.margin = margin

    def real(self, score: Tensor) -> Tensor:
        return relu(self.margin - score).square()

    def fake(self, score: Tensor) -> Tensor:
        return relu(self.margin + score).square()

    def generator(self, score: Tensor) -> Tensor:
        return relu(self.margin - score).square()


def main(out: Path) -> dict:
    changes = ["model.objective=squared-hinge", "train.steps=30", "log.every=10"]
    config = genctl.load_config("quickstart", changes)
    result = genctl.fit(config, "digits", out / "run")
    print({key: value for key, value in result.last.items() if key.startswith("loss/")})
    return dict(result.last)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
