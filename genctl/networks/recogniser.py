"""Networks that find a code in what a discriminator saw."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from genctl.networks.layers.batch_norm import BatchNorm1d
from genctl.registry import register


@register("recogniser", "mlp")
class MLPRecogniser(nn.Module):
    """InfoGAN's head on the discriminator's features (arXiv:1606.03657, appendix C.1).

    Args:
        features: size of the representation.
        outputs: numbers that describe the posterior of the code.
        width: units of the hidden layer.
    """

    def __init__(
        self, features: int, outputs: int, *, width: Annotated[int, Field(ge=1)] = 128
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, width, bias=False),
            BatchNorm1d(width),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Linear(width, outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``(N, features)`` → ``(N, outputs)``."""
        out: Tensor = self.layers(features)
        return out
