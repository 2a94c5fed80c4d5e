"""Fine-tuning from few labels: a linear head and the last layer below it, by gradient descent.

Unlike a probe this changes the features: of the network everything up to its last layer stays as it
is, the last layer goes on from where it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genctl.randomness import RandomStream

STEPS, EVERY, BATCH, RATE = 200, 10, 50, 1e-3
"""Adam's steps at most, steps between looks at the validation part, batch size, learning rate."""
_TEST_ROWS = 250

Featuriser = Callable[[Tensor], Tensor]


def last_layer(model: nn.Module, features_of: Featuriser, x: Tensor) -> list[nn.Parameter]:
    """The parameters of the last weighted layer that the features pass, norms behind it included.

    Args:
        model: the network, or whatever contains it.
        features_of: ``(N, …)`` → ``(N, F)``, by the model.
        x: a few examples.

    Returns:
        No parameters where the features do not depend on any by a gradient.
    """
    called: list[nn.Module] = []
    owners = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in owners]
    everything = list(model.parameters())
    before = [p.requires_grad for p in everything]
    try:
        model.requires_grad_(True)
        with torch.enable_grad():
            out = features_of(x)
            if not out.requires_grad:
                return []
            slopes = torch.autograd.grad(out.sum(), everything, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, flag in zip(everything, before, strict=True):
            parameter.requires_grad_(flag)
    reached = {id(p) for p, slope in zip(everything, slopes, strict=True) if slope is not None}
    chosen: list[nn.Parameter] = []
    for module in reversed(called):
        own = [p for p in module.parameters(recurse=False) if id(p) in reached]
        chosen += [p for p in own if not any(p is other for other in chosen)]
        if any(p.dim() > 1 for p in own):
            break
    return chosen


def fine_tuned_error(
    features_of: Featuriser,
    layer: Sequence[nn.Parameter],
    labelled: tuple[Tensor, Tensor],
    validation: int,
    test: tuple[Tensor, Tensor],
    rng: RandomStream,
    rate: float = RATE,
) -> float:
    """Test error after fine-tuning; the layer is put back as it was.

    How many steps are taken is chosen by the cross-entropy of the validation part; then everything
    begins again and takes as many steps on all labelled examples.

    Args:
        features_of: ``(N, *shape)`` → ``(N, F)``.
        layer: the parameters that are trained besides the head.
        labelled: ``(n, *shape)`` examples and ``(n,)`` labels.
        validation: the last so many of them are for validation.
        test: examples and labels.
        rng: orders the examples.
        rate: Adam's learning rate.
    """
    x, y = labelled
    original = [p.detach().clone() for p in layer]
    flags = [p.requires_grad for p in layer]
    cut = len(x) - validation
    try:
        for parameter in layer:
            parameter.requires_grad_(True)
        tuning = _Tuning(features_of, layer, x, int(y.max()) + 1, rate)
        losses = [
            tuning.loss(x[cut:], y[cut:])
            for _ in tuning.steps(x[:cut], y[:cut], STEPS, rng.fork("validation"))
        ]
        steps = EVERY * (losses.index(min(losses)) + 1)
        _restore(layer, original)
        tuning = _Tuning(features_of, layer, x, int(y.max()) + 1, rate)
        for _ in tuning.steps(x, y, steps, rng.fork("all")):
            pass
        return tuning.error(*test)
    finally:
        _restore(layer, original)
        for parameter, flag in zip(layer, flags, strict=True):
            parameter.requires_grad_(flag)


class _Tuning:
    """A head of zeros on scaled features, trained together with the layer."""

    def __init__(
        self,
        features_of: Featuriser,
        layer: Sequence[nn.Parameter],
        x: Tensor,
        classes: int,
        rate: float,
    ) -> None:
        self.features_of = features_of
        with torch.no_grad():
            seen = torch.cat([features_of(part) for part in x.split(_TEST_ROWS)]).float()
        self.centre = seen.mean(0)
        self.scale = float((seen - self.centre).square().mean().sqrt().clamp_min(1e-12))
        self.weight = torch.zeros(classes, seen.shape[1], device=x.device, requires_grad=True)
        self.bias = torch.zeros(classes, device=x.device, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.weight, self.bias, *layer], lr=rate)

    def logits(self, x: Tensor) -> Tensor:
        seen = (self.features_of(x).float() - self.centre) / self.scale
        return F.linear(seen, self.weight, self.bias)

    def steps(self, x: Tensor, y: Tensor, count: int, rng: RandomStream) -> Any:
        """Take ``count`` steps and come back after every few."""
        order = torch.empty(0, dtype=torch.int64)
        for step in range(1, count + 1):
            while len(order) < min(BATCH, len(x)):
                order = torch.cat([order, rng.permutation(len(x))])
            rows, order = order[:BATCH].to(x.device), order[BATCH:]
            with torch.enable_grad():
                loss = F.cross_entropy(self.logits(x[rows]), y[rows])
                self.optimiser.zero_grad()
                loss.backward()
            self.optimiser.step()
            if step % EVERY == 0:
                yield step

    @torch.no_grad()
    def loss(self, x: Tensor, y: Tensor) -> float:
        return float(F.cross_entropy(self.logits(x), y))

    @torch.no_grad()
    def error(self, x: Tensor, y: Tensor) -> float:
        pairs = zip(x.split(_TEST_ROWS), y.split(_TEST_ROWS), strict=True)
        wrong = sum(int((self.logits(a).argmax(1) != b).sum()) for a, b in pairs)
        return wrong / len(x)


@torch.no_grad()
def _restore(layer: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(layer, values, strict=True):
        parameter.copy_(value)
