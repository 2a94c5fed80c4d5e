"""Train, sample and score from Python: the same as the commands, without them."""

import sys
from pathlib import Path

import genctl


def main(out: Path) -> dict:
    config = genctl.load_config("quickstart", ["train.steps=60", "log.every=20"])
    result = genctl.fit(config, "digits", out / "run")
    print(f"{result.step} steps on {result.images} images in {result.seconds:.1f} s")

    run = genctl.open_run(result.run)
    samples = run.sample(16, seed=0)  # (16, 1, 8, 8) in [-1, 1], averaged weights
    print(f"samples {tuple(samples.shape)} between {samples.min():.2f} and {samples.max():.2f}")

    report = genctl.evaluate(result.run, "digits", ["fid", "kid"], features="pixels", n=200)
    print(report["metrics"])
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
