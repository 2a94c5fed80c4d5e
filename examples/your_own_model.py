"""A new algorithm is one file: own your networks, say how a step goes, offer what you can do."""

import sys
from pathlib import Path

from torch import Tensor, nn

import genctl
from genctl.config.load import validate
from genctl.contracts import DecoderPart, GenerativeModel, Update
from genctl.randomness import RandomStream
from genctl.registry import default, register
from genctl.types import Batches, DataSpec


@register("model", "mean-shift-example")
class MeanShift(GenerativeModel):
    """Learns the mean image and one direction of variation by regression on known noise."""

    players = {"decoder": ("decoder",)}  # noqa: RUF012

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: int = 2,
        decoder: DecoderPart = default("decoder", "mlp"),
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.decoder = decoder(latent_dim, spec.shape)

    def training_step(self, batches: Batches, update: Update) -> dict[str, Tensor]:
        def loss(batch):
            z = update.rng.normal(len(batch), self.latent_dim)
            return (self.decoder(z) - batch.x).square().mean()

        update("decoder", loss, next(batches))
        return {}

    def sample(self, n: int, rng: RandomStream, condition: Tensor | None = None) -> Tensor:
        return self.decoder(rng.normal(n, self.latent_dim)).clamp(-1, 1)


def main(out: Path) -> nn.Module:
    config = validate(
        {
            "model": {"kind": "mean-shift-example", "decoder": {"kind": "mlp", "width": 32}},
            "optim": {"decoder": {"kind": "adam", "lr": 1e-3}},
            "data": {"spec": "digits"},
            "train": {"steps": 30},
            "log": {"every": 10},
        },
        "example",
        name="mean-shift",
    )
    result = genctl.fit(config, None, out / "run")
    run = genctl.open_run(result.run)
    print(f"loss {result.last['loss/decoder']:.3f}, samples {tuple(run.sample(4).shape)}")
    return run.model


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
