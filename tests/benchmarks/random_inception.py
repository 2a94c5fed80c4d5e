"""Weights of the standard Inception network's shape, random but seeded and with living signals.

Enough to compare two programs. Kaiming's weights keep the size of the signal through the layers;
the batch norms' statistics are those of random pictures, and no norm is trivial, so that leaving
one out, or folding it wrongly, shows.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as peer


def network(seed: int = 0) -> nn.Module:
    """torch-fidelity's network with such weights, giving features and logits."""
    load = peer.load_state_dict_from_url
    peer.load_state_dict_from_url = lambda url, progress: {}
    random = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        found = _Skeleton("random", ["2048", "logits_unbiased"])
        with torch.no_grad():
            for module in found.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                elif isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.8, 1.2)
                    nn.init.normal_(module.bias, 0.0, 0.1)
                    module.momentum = 1.0
            found.fc.weight.mul_(8)  # else random logits hardly differ from each other
            found.train()(pictures(12, (30.0, 110.0)))
    finally:
        peer.load_state_dict_from_url = load
        torch.random.set_rng_state(random)
    return found.eval()


def pictures(n: int, contrast: tuple[float, float], edge: int = 40, seed: int = 0) -> Tensor:
    """Smooth random pictures, uint8 ``(n, 3, edge, edge)``, their contrasts evenly in a range."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.linspace(*contrast, n).view(n, 1, 1, 1)
    coarse = 128 + spread * torch.randn(n, 3, 6, 6, generator=g)
    smooth = nn.functional.interpolate(coarse, (edge, edge), mode="bicubic")
    return smooth.round().clamp(0, 255).to(torch.uint8)


def save(path: Path, seed: int = 0) -> Path:
    """Write the weights as torch-fidelity reads them."""
    torch.save(network(seed).state_dict(), path)
    return path


class _Skeleton(peer.FeatureExtractorInceptionV3):
    def load_state_dict(self, state_dict, strict=True, assign=False):
        return None
