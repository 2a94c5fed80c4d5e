"""Convolutions that run as matrix products where, on a CPU, the native kernels are slow.

A convolution is bilinear, and so are its gradients: with windows of x met by the kernels w to give
y, the three maps

* ``gather(x, w) → y``: the convolution, and the input gradient of a transposed one,
* ``scatter(y, w) → x``: the transposed convolution, and the input gradient of a plain one,
* ``correlate(x, y) → w``: the weight gradient of both,

are closed under differentiation, to any order. Each is computed natively or as one product of
unfolded windows (GEMM), whichever its shape favours: native kernels are made for wide pictures of
few channels, and lose by up to 8 where few positions meet many channels. Parameters keep the names
and the layout of ``nn.Conv2d`` and ``nn.ConvTranspose2d``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]
Map = Literal["gather", "scatter", "correlate"]
MAPS: tuple[Map, ...] = ("gather", "scatter", "correlate")


@dataclass(frozen=True)
class Geometry:
    """What a convolution is besides its numbers.

    Attributes:
        inputs: channels of x, which is ``(N, inputs, *size)``.
        outputs: channels of y, which is ``(N, outputs, *positions)``; w is
            ``(outputs, inputs, *kernel)``.
    """

    inputs: int
    outputs: int
    size: Pair
    positions: Pair
    kernel: Pair
    stride: Pair
    padding: Pair

    @property
    def single(self) -> bool:
        """One window is all of x: a fully connected layer."""
        return self.positions == (1, 1) and self.size == self.kernel and self.padding == (0, 0)

    def by_product(self, what: Map, dtype: torch.dtype) -> bool:
        """Whether the product is faster, as ``tests/benchmarks/training.py`` measures it.

        Unfolding costs memory traffic in proportion to the positions; what it saves grows with
        the channels. The native weight gradient is the first to fall behind, in bfloat16 first.
        """
        if self.single:
            return True
        positions, pairs = self.positions[0] * self.positions[1], self.inputs * self.outputs
        if what == "correlate":
            most, least = (64, 2**7) if dtype == torch.bfloat16 else (16, 2**11)
            return positions <= most and pairs >= least * positions
        return positions <= 16 and pairs >= 2**17


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``, each direction by the faster way on a CPU."""

    plain = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, out_channels, H', W')``."""
        if not _has_products(self, input):
            return super().forward(input)
        size, settings = _edges(input), _pairs(self)
        axes = zip(size, *settings, strict=True)
        height, width = ((h + 2 * p - k) // s + 1 for h, k, s, p in axes)
        channels = self.in_channels, self.out_channels
        geometry = Geometry(*channels, size, (height, width), *settings)
        weight = self.weight  # read once: one that is parametrised is computed at every reading
        out = _apply("gather", input, weight, self.bias, geometry)
        return self._conv_forward(input, weight, self.bias) if out is None else out


class ConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d``, each direction by the faster way on a CPU."""

    plain = nn.ConvTranspose2d

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, out_channels, H', W')``."""
        if output_size is not None or not _has_products(self, input):
            return super().forward(input, output_size)
        positions, settings = _edges(input), _pairs(self)
        axes = zip(positions, *settings, self.output_padding, strict=True)
        height, width = ((h - 1) * s - 2 * p + k + extra for h, k, s, p, extra in axes)
        channels = self.out_channels, self.in_channels
        geometry = Geometry(*channels, (height, width), positions, *settings)
        out = _apply("scatter", input, self.weight, self.bias, geometry)
        return super().forward(input) if out is None else out


def transposed(layer: nn.Conv2d, gradient: Tensor, size: Pair) -> Tensor:
    """A convolution's map from a gradient of its output to that of its input, differentiable.

    Args:
        layer: any that pads with a number of zeros.
        gradient: ``(N, out_channels, H', W')``.
        size: of the input.

    Returns:
        ``(N, in_channels, *size)``.
    """
    positions, settings, weight = _edges(gradient), _pairs(layer), layer.weight
    if isinstance(layer, Conv2d) and _has_products(layer, gradient):
        channels = layer.in_channels, layer.out_channels
        geometry = Geometry(*channels, size, positions, *settings)
        if (out := _apply("scatter", gradient, weight, None, geometry)) is not None:
            return out
    (_, stride, padding), (a, b) = settings, layer.dilation
    extra = _unreached(size, positions, *settings, (a, b))
    return F.conv_transpose2d(gradient, weight, None, stride, padding, extra, layer.groups, (a, b))


def _has_products(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Only plain convolutions on a CPU have; compilers know how to fuse the native ones."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(s <= k for s, k in zip(layer.stride, layer.kernel_size, strict=True))
        and not torch.compiler.is_compiling()
    )


def _edges(x: Tensor) -> Pair:
    return x.shape[2], x.shape[3]


def _pairs(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding."""
    (a, b), (c, d) = layer.kernel_size, layer.stride
    assert not isinstance(layer.padding, str)
    e, f = layer.padding
    return (a, b), (c, d), (e, f)


def _apply(
    what: Map, a: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor | None:
    """The layer with autocast's number format; None where every direction is best left native."""
    dtype = a.dtype
    if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    if not any(geometry.by_product(name, dtype) for name in MAPS):
        return None
    out: Tensor = _Bilinear.apply(a.to(dtype), weight.to(dtype), what, geometry)
    return out if bias is None else out + bias.to(dtype)[:, None, None]


class _Bilinear(torch.autograd.Function):
    """One of the three maps; its gradients are the other two, through this class again."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, what: Map, geometry: Geometry) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            ways = _PRODUCTS if geometry.by_product(what, a.dtype) else _NATIVE
            return ways[what](a, b, geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, b, ctx.what, ctx.geometry = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (a, b), grad = ctx.saved_tensors, grads[0]
        of_a: Map
        of_b: Map
        if ctx.what == "gather":  # a, b, grad are x, w and of y
            (of_a, *one), (of_b, *two) = ("scatter", grad, b), ("correlate", a, grad)
        elif ctx.what == "scatter":  # y, w, of x
            (of_a, *one), (of_b, *two) = ("gather", grad, b), ("correlate", grad, a)
        else:  # x, y, of w
            (of_a, *one), (of_b, *two) = ("scatter", b, grad), ("gather", a, grad)
        wanted = ctx.needs_input_grad
        return (
            _Bilinear.apply(*one, of_a, ctx.geometry) if wanted[0] else None,
            _Bilinear.apply(*two, of_b, ctx.geometry) if wanted[1] else None,
            None,
            None,
        )


# --- the maps as products -----------------------------------------------------------------------
# Each result is allocated whole and filled: a view could not be changed in place by the next layer.
def _gather(x: Tensor, w: Tensor, g: Geometry) -> Tensor:
    y = _empty(x, len(x), g.outputs, g.positions)
    torch.mm(_windows(x, g), _flat(w).t(), out=_last(y).view(-1, g.outputs))
    return y


def _correlate(x: Tensor, y: Tensor, g: Geometry) -> Tensor:
    w = _empty(x, g.outputs, g.inputs, g.kernel)
    # The small factor is transposed in memory first: the product is then twice as fast.
    left = _last(y).reshape(-1, g.outputs).t().contiguous()
    torch.mm(left, _windows(x, g), out=_last(w).view(g.outputs, -1))
    return w


def _scatter(y: Tensor, w: Tensor, g: Geometry) -> Tensor:
    x = _empty(y, len(y), g.inputs, g.size)
    if g.single:
        torch.mm(y.flatten(1), _flat(w), out=_last(x).view(len(y), -1))
        return x
    # Pixels at equal places modulo the stride meet the same taps of w. Each such phase is a plain
    # convolution of y and one product, so that every sum is rounded once.
    low = [(k - 1) // s for k, s in zip(g.kernel, g.stride, strict=True)]
    reach = [(h - 1 + p) // s for h, p, s in zip(g.size, g.padding, g.stride, strict=True)]
    high = [max(0, last - n + 1) for last, n in zip(reach, g.positions, strict=True)]
    padded = _padded(y, low, high)
    for a in range(g.stride[0]):
        for b in range(g.stride[1]):
            pixels = _last(x)[:, a :: g.stride[0], b :: g.stride[1]]
            if not pixels.numel():  # a picture smaller than the stride has no such phase
                continue
            (top, rows), (left, columns) = _taps(g, 0, a), _taps(g, 1, b)
            taps = torch.cat([w[:, :, i, j] for i in rows for j in columns])
            first = (low[0] + top, low[1] + left)
            counts = (pixels.shape[1], pixels.shape[2])
            seen = _unfolded(padded, first, counts, (len(rows), len(columns)), (1, 1))
            pixels.copy_((seen @ taps).view_as(pixels))
    return x


def _taps(g: Geometry, axis: int, phase: int) -> tuple[int, list[int]]:
    """The taps that a phase's pixels meet, and the position of y where the first pixel's begin."""
    stride = g.stride[axis]
    offset, tap = divmod(phase + g.padding[axis], stride)
    taps = list(range(tap, g.kernel[axis], stride))
    return offset - len(taps) + 1, taps[::-1]


def _windows(x: Tensor, g: Geometry) -> Tensor:
    """What each position of y sees of x, ``(N · positions, kernel · inputs)``."""
    padded = _padded(x, g.padding, g.padding)
    return _unfolded(padded, (0, 0), g.positions, g.kernel, g.stride)


def _unfolded(x: Tensor, first: Pair, counts: Pair, taps: Pair, stride: Pair) -> Tensor:
    """Windows of a channels-last ``(N, H, W, C)`` as rows."""
    sn, sh, sw, sc = x.stride()
    shape = (len(x), *counts, *taps, x.shape[3])
    strides = (sn, sh * stride[0], sw * stride[1], sh, sw, sc)
    start = x.storage_offset() + first[0] * sh + first[1] * sw
    windows = x.as_strided(shape, strides, start)
    return windows.reshape(len(x) * counts[0] * counts[1], -1)


def _padded(x: Tensor, low: Any, high: Any) -> Tensor:
    """``(N, C, H, W)`` → contiguous ``(N, H, W, C)`` with zeros around."""
    rows = _last(x)
    if not (any(low) or any(high)):
        return rows.contiguous()
    n, height, breadth, channels = rows.shape
    whole = rows.new_zeros(n, low[0] + height + high[0], low[1] + breadth + high[1], channels)
    whole[:, low[0] : low[0] + height, low[1] : low[1] + breadth] = rows
    return whole


def _last(x: Tensor) -> Tensor:
    """Channels as the last axis, without a copy."""
    return x.permute(0, 2, 3, 1)


def _flat(w: Tensor) -> Tensor:
    """``(outputs, inputs, *kernel)`` → ``(outputs, kernel · inputs)``, free in channels_last."""
    return _last(w).reshape(w.shape[0], -1)


def _empty(like: Tensor, n: int, channels: int, size: Pair) -> Tensor:
    shape, layout = (n, channels, *size), torch.channels_last
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


# --- the maps as torch has them -----------------------------------------------------------------
def _native_gather(x: Tensor, w: Tensor, g: Geometry) -> Tensor:
    return F.conv2d(x, w, None, g.stride, g.padding)


def _native_scatter(y: Tensor, w: Tensor, g: Geometry) -> Tensor:
    extra = _unreached(g.size, g.positions, g.kernel, g.stride, g.padding)
    return F.conv_transpose2d(y, w, None, g.stride, g.padding, extra)


def _unreached(
    size: Pair, positions: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> list[int]:
    """Rows and columns at the far edge that the strides do not reach."""
    axes = zip(size, positions, kernel, stride, padding, dilation, strict=True)
    return [h - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for h, n, k, s, p, d in axes]


def _native_correlate(x: Tensor, y: Tensor, g: Geometry) -> Tensor:
    w = _empty(x, g.outputs, g.inputs, g.kernel)  # only its shape and layout are read
    settings = ([0], g.stride, g.padding, (1, 1), False, (0, 0), 1, (False, True, False))
    gradient: Tensor = torch.ops.aten.convolution_backward(y, x, w, *settings)[1]
    return gradient


_PRODUCTS = {"gather": _gather, "scatter": _scatter, "correlate": _correlate}
_NATIVE = {
    "gather": _native_gather,
    "scatter": _native_scatter,
    "correlate": _native_correlate,
}
