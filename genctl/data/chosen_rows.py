"""A tensor that stands for some rows of another, which may be a map of more than the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_BLOCK_BYTES = 64 * 2**20
_aten = torch.ops.aten


class ChosenRows(Tensor):
    """Rows of a tensor: what is asked for by its place is gathered, and nothing else is read.

    ``chosen[i]``, ``chosen[a:b]``, ``chosen[index]`` and ``index_select`` along the rows give
    ordinary tensors. Whatever else is done with it is done with all of its rows, in memory; it
    moves to another device in blocks. It is not to be written to.

    Args:
        stored: the tensor, ``(M, …)``.
        rows: ``(N,)`` int64, places in it.
    """

    stored: Tensor
    rows: Tensor

    # The class is seen below the level of functions, so that what they return is a plain tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: type[ChosenRows], stored: Tensor, rows: Tensor) -> ChosenRows:
        """A tensor without memory of its own."""
        shape = (len(rows), *stored.shape[1:])
        made: ChosenRows = Tensor._make_wrapper_subclass(
            cls, shape, dtype=stored.dtype, device=stored.device
        )
        made.stored, made.rows = stored, rows
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer an operation of PyTorch."""
        kwargs = kwargs or {}
        chosen = args[0] if args else None
        if isinstance(chosen, cls):
            taken = _TAKEN.get(function)
            answer = taken and taken(chosen, function, *args[1:], **kwargs)
            if answer is not None:
                return answer
            if function._schema.is_mutable and function is not _aten.index_select.out:
                raise TypeError(f"{function}: chosen rows cannot be written to")
        return function(*tree_map(_gathered, args), **tree_map(_gathered, kwargs))

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """All rows as an array, in memory."""
        return self.gathered().numpy(force=force)

    def gathered(self) -> Tensor:
        """All rows, in memory."""
        return self.stored.index_select(0, self.rows)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Not their values: they would have to be read."""
        return f"ChosenRows({len(self.rows):,} of {tuple(self.stored.shape)}, {self.dtype})"


def _gathered(value: Any) -> Any:
    return value.gathered() if isinstance(value, ChosenRows) else value


# Each gives None for what does not go along the rows.
def _select(chosen: ChosenRows, function: Any, dim: int, index: int) -> Tensor | None:
    return function(chosen.stored, 0, int(chosen.rows[index])) if dim == 0 else None


def _slice(
    chosen: ChosenRows,
    function: Any,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor | None:
    return chosen.stored.index_select(0, chosen.rows[start:end:step]) if dim == 0 else None


def _index(chosen: ChosenRows, function: Any, indices: list[Tensor | None]) -> Tensor | None:
    first, *others = indices
    if first is None or (first.dtype == torch.bool and first.ndim > 1):
        return None
    return function(chosen.stored, [chosen.rows[first], *others])


def _index_select(
    chosen: ChosenRows, function: Any, dim: int, index: Tensor, **out: Tensor
) -> Tensor | None:
    return (
        function(chosen.stored, 0, chosen.rows.index_select(0, index), **out) if dim == 0 else None
    )


def _to(chosen: ChosenRows, function: Any, **how: Any) -> Tensor | None:
    """To a device that has room for what the memory may not hold."""
    device = torch.device(how.get("device") or chosen.device)
    if device.type == "cpu":
        return None
    there = torch.empty(chosen.shape, dtype=how.get("dtype") or chosen.dtype, device=device)
    step = max(1, _BLOCK_BYTES // max(1, chosen[0].nbytes))
    for start in range(0, len(chosen), step):
        there[start : start + step] = chosen[start : start + step]
    return there


_TAKEN: dict[Any, Callable[..., Tensor | None]] = {
    _aten.select.int: _select,
    _aten.slice.Tensor: _slice,
    _aten.index.Tensor: _index,
    _aten.index_select.default: _index_select,
    _aten.index_select.out: _index_select,
    _aten._to_copy.default: _to,
}
