from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """Seeded random weights of the standard network's shape: enough to compare two programs."""
    from torch_fidelity import feature_extractor_inceptionv3 as peer

    class Skeleton(peer.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, strict=True, assign=False):
            return None

    load = peer.load_state_dict_from_url
    peer.load_state_dict_from_url = lambda url, progress: {}
    try:
        torch.manual_seed(0)
        network = Skeleton("skeleton", ["2048"])
    finally:
        peer.load_state_dict_from_url = load
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # keeps the signal's size through 48 layers
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    network.fc.weight.mul_(20)  # else random logits hardly differ from each other
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path
