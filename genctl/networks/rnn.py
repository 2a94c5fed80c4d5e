"""The recurrent generator of the unrolled GAN paper (Metz et al. 2017, arXiv:1611.02163)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from genctl.errors import ConfigError
from genctl.registry import register


@register("generator", "rnn")
class RNNGenerator(nn.Module):
    """An LSTM that writes an image one column at a time (section 3.2 and appendix C).

    z passes through a fully connected ReLU layer into the state of the LSTM, taken here as both its
    parts h and c. The LSTM has no input of its own; its output after each step becomes one column
    by a linear layer and tanh. It is far weaker than a discriminator that sees the whole image.

    Args:
        latent_dim: size of z.
        shape: ``(C, H, W)``.
        width: units of the LSTM.

    Raises:
        ConfigError: the data are not images.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        *,
        width: Annotated[int, Field(ge=1)] = 256,
    ) -> None:
        if len(shape) != 3:
            raise ConfigError(
                "rnn",
                [f"writes images by columns, the data has shape {shape}"],
                "use an mlp network for points",
            )
        super().__init__()
        channels, height, self.columns = shape
        self.edge = (channels, height)
        self.start = nn.Linear(latent_dim, width)
        self.gates = nn.Linear(width, 4 * width)
        self.column = nn.Linear(width, channels * height)
        for layer in (self.start, self.column):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for gate in self.gates.weight.split(width):
            nn.init.xavier_uniform_(gate)
        nn.init.zeros_(self.gates.bias)
        nn.init.ones_(self.gates.bias[width : 2 * width])  # it forgets nothing at first

    def forward(self, z: Tensor) -> Tensor:
        """``(N, latent_dim)`` → ``(N, C, H, W)`` in [−1, 1]."""
        h = c = torch.relu(self.start(z))
        outputs = []
        # A cell of its own: the fused LSTM cannot be differentiated twice on a GPU.
        for _ in range(self.columns):
            enter, forget, new, leave = self.gates(h).chunk(4, 1)
            c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
            h = leave.sigmoid() * c.tanh()
            outputs.append(h)
        columns = self.column(torch.stack(outputs, 1)).tanh()
        return columns.unflatten(2, self.edge).permute(0, 2, 3, 1).contiguous()
