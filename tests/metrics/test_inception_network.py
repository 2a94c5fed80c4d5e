"""The rearranged network against torch-fidelity's own, part by part."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import random_inception
import torch

from genctl.metrics.features import inception_network
from genctl.metrics.features.extractor import collect
from genctl.metrics.features.inception import Inception
from genctl.metrics.features.inception_network import InceptionNetwork, resized
from genctl.metrics.frechet import distance, fit


@pytest.fixture(scope="module")
def source():
    return random_inception.network()


@pytest.fixture(scope="module")
def images():
    return random_inception.pictures(6, (40.0, 90.0), seed=3)


@pytest.mark.parametrize(
    "size", [(64, 64), (1, 1), (28, 31), (299, 299), (300, 512), (178, 218), (2, 599)]
)
def test_the_resize_is_tensorflows(size):
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as theirs,
    )

    g = torch.Generator().manual_seed(sum(size))
    x = 255 * torch.rand(2, 3, *size, generator=g, dtype=torch.float64)
    expected = theirs(x, (299, 299), align_corners=False)
    torch.testing.assert_close(resized(x), expected, rtol=0, atol=1e-11)
    expected = theirs(x.float(), (299, 299), align_corners=False)
    torch.testing.assert_close(resized(x.float()), expected, rtol=0, atol=2e-4)
    other = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
    if size not in ((1, 1), (299, 299)):
        assert (other - expected).abs().max() > 1  # a usual resize would be noticed


def test_features_and_logits_are_torch_fidelitys_in_float64(source, images):
    """No tolerance for rounding hides a wrong fold, order of channels or pool."""
    theirs = copy.deepcopy(source).double()
    theirs.feature_extractor_internal_dtype = torch.float64
    ours = InceptionNetwork(copy.deepcopy(source), torch.float64)
    for found, expected in zip(ours(images[:2]), theirs(images[:2]), strict=True):
        assert found.dtype == torch.float64
        # Theirs are rounded to float32 at the very end.
        torch.testing.assert_close(
            found, expected.double(), rtol=0, atol=2e-7 * float(expected.abs().max())
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_kernel_and_the_plain_one_agree(source, dtype, monkeypatch):
    block = copy.deepcopy(source.Mixed_6a.branch3x3).double()
    x = torch.randn(2, 288, 9, 9, generator=torch.Generator().manual_seed(0))
    expected = block(x.double()).detach()
    x = x.to(dtype, memory_format=torch.channels_last)
    layer = inception_network.Convolution(block, "relu").to(dtype)
    fused = layer(x)
    monkeypatch.setattr(inception_network, "has_fused_kernel", lambda dtype: False)
    plain = layer(x)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for found in (fused, plain):
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_kernel_that_is_not_there_or_wrong_is_not_used(monkeypatch):
    probe = inception_network.has_fused_kernel.__wrapped__

    def absent(*given):
        raise AttributeError("no such operator")

    monkeypatch.setattr(inception_network, "_fused", absent)
    assert not probe(torch.float32)
    monkeypatch.setattr(
        inception_network,
        "_fused",
        lambda x, w, b, p, s, name: torch.nn.functional.conv2d(x, w, b, s, p),
    )
    assert not probe(torch.float32)  # forgets the ReLU


def test_precisions_differ_in_the_network_only(inception_weights, source, images, device):
    """bfloat16 is another network: never to be compared with float32, even on the same images."""
    full, half = (Inception(inception_weights, device, precision=p) for p in ("fp32", "bf16"))
    with torch.autocast(device, torch.bfloat16):  # whatever surrounds it
        exact, fast = (collect(network, [images], "x").values for network in (full, half))
    theirs = source(images)[0].numpy()
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(exact, theirs, rtol=0, atol=3e-4 * scale)
    assert 1e-3 * scale < np.abs(fast - theirs).max() < 0.5 * scale
    assert (full.protocol["precision"], half.protocol["precision"]) == ("fp32", "bf16")
    assert full.protocol["extractor_hash"] == half.protocol["extractor_hash"]
    assert "bf16" in half.warning
    assert "bf16" not in full.warning
    mixed, total = distance(fit(exact), fit(fast)), fit(exact).trace
    assert mixed > 0.05 * total


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_set_against_itself_is_zero_in_any_order_and_batch(
    inception_weights, images, precision, device
):
    network = Inception(inception_weights, device, precision=precision)
    one = fit(collect(network, images.split(4), "x").values)
    other = fit(collect(network, images.flip(0).split(5), "x").values)
    assert distance(one, other) <= (1e-6 if device == "cpu" else 1e-2) * one.trace
