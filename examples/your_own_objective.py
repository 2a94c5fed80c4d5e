"""A new loss is one class: register it, name it in a preset or with --set, train."""

import sys
from pathlib import Path

from torch import Tensor

import genctl
from genctl.registry import register


@register("objective", "least-squares-example")
class LeastSquares:
    """LSGAN with free targets (Mao et al. 2017, arXiv:1611.04076, eq. 2)."""

    output = "logit"

    def __init__(self, *, a: float = 0.0, b: float = 1.0, c: float = 1.0) -> None:
        self.a, self.b, self.c = a, b, c

    def real(self, score: Tensor) -> Tensor:
        return (score - self.b).square()

    def fake(self, score: Tensor) -> Tensor:
        return (score - self.a).square()

    def generator(self, score: Tensor) -> Tensor:
        return (score - self.c).square()


def main(out: Path) -> dict:
    changes = ["model.objective=least-squares-example", "train.steps=30", "log.every=10"]
    config = genctl.load_config("quickstart", changes)
    result = genctl.fit(config, "digits", out / "run")
    print({key: value for key, value in result.last.items() if key.startswith("loss/")})
    return dict(result.last)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
