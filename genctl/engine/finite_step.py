"""An optimiser's step that leaves no trace where the gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def step_where_finite(
    optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], bad: Tensor
) -> None:
    """Step unless ``bad`` is 1, deciding on the device where there is one.

    Args:
        optimiser: of these parameters; one without a gradient is not stepped.
        parameters: all on the device of ``bad``.
        bad: 0 or 1, float32.
    """
    if bad.device.type != "cpu":
        step_unread(optimiser, parameters, bad)
    elif not bad:
        optimiser.step()


def step_unread(
    optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], bad: Tensor
) -> None:
    """Step, and take it back where ``bad`` is 1, without anyone waiting to read it."""
    if optimiser.defaults.get("fused"):
        optimiser.found_inf = bad  # type: ignore[attr-defined]  # read by the fused kernels
        optimiser.step()
        return
    stepped: list[Tensor] = [p for p in parameters if p.grad is not None]
    if not stepped:
        return
    kept = stepped + _moments(optimiser, stepped)
    before = _joined(kept)
    optimiser.step()
    _write(kept, torch.where(bad.bool(), before, _joined(kept)))
    known = {id(tensor) for tensor in kept}
    fresh = [moment for moment in _moments(optimiser, stepped) if id(moment) not in known]
    if fresh:  # made by this step; one that was not made would start from zero
        _write(fresh, torch.where(bad.bool(), 0.0, _joined(fresh)))


def _moments(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> list[Tensor]:
    """What the optimiser keeps of these parameters."""
    states = (optimiser.state.get(p, {}) for p in parameters)
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """A copy of all numbers in one piece: a device starts one kernel instead of hundreds."""
    return torch.cat([_line(tensor) for tensor in tensors])


def _write(tensors: Sequence[Tensor], numbers: Tensor) -> None:
    parts = numbers.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_([_line(tensor) for tensor in tensors], list(parts))


def _line(tensor: Tensor) -> Tensor:
    """The numbers of a dense tensor as they lie in memory, whatever its format."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))
