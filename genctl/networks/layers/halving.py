"""How deep a convolutional network may go at a given resolution."""

from __future__ import annotations

from genctl.errors import ConfigError

SMALLEST = 7
"""No halving below this many pixels: 64 → 4 in four steps, 28 → 7 in two, 8 → 4 in one."""


def halvings(shape: tuple[int, ...], network: str) -> int:
    """How often an image can be halved until its shorter edge is at most ``SMALLEST`` or odd.

    Args:
        shape: ``(C, H, W)``.
        network: its name, for the message.

    Raises:
        ConfigError: not an image, or an edge that is not a multiple of 4.
    """
    if len(shape) != 3:
        raise ConfigError(
            network, [f"wants images, the data has shape {shape}"], "use an mlp network for points"
        )
    height, width = shape[1:]
    if height % 4 or width % 4 or min(height, width) < 8:
        nearest = max(8, round(height / 4) * 4)
        raise ConfigError(
            network,
            [f"wants edges that are multiples of 4 from 8 up, the data has {height}×{width}"],
            f"--set data.size={nearest}",
        )
    count = 0
    while min(height, width) > SMALLEST and height % 2 == 0 and width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    return count


def halvings_to_eight(shape: tuple[int, ...], network: str) -> int:
    """As ``halvings``, but down to 8×8 (7×7 for 28): one less where that ends at 4."""
    count = halvings(shape, network)
    return count - 1 if count > 1 and min(shape[1:]) >> count < SMALLEST else count
