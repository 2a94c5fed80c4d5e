"""PixelCNN: causality by gradients, probabilities by enumeration, the cached scan by the plain one."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from genctl.data.ranges import from_levels
from genctl.errors import UsageError
from genctl.networks.layers.causal_cache import CausalScan
from genctl.networks.layers.masked_convolution import MaskedConv2d, group_bounds, groups_of
from genctl.networks.layers.raster_scan import cached_scan, inverse_cdf, plain_scan
from genctl.networks.pixelcnn import PixelCNN
from genctl.randomness import RandomStream
from genctl.types import DataSpec


def network(shape: tuple[int, int, int], levels: int, **taste: int) -> PixelCNN:
    """A small network that is far from its start, in float64."""
    torch.manual_seed(0)
    spec = DataSpec("image", shape, levels=levels)
    net = PixelCNN(spec, **{"width": 6, "depth": 2, **taste}).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def images(n: int, shape: tuple[int, int, int], levels: int) -> torch.Tensor:
    return from_levels(torch.randint(levels, (n, *shape)), levels).double()


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 4), (2, 3, 5)], ids=str)
def test_causality_by_the_jacobian(shape):
    """A logit depends on every value before it that is in reach, and on none at or after it."""
    net = network(shape, levels=4, width=7)  # 7 features are not divisible by 3 channels
    x = images(1, shape, 4)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v).sum(2)[0], x)[:, :, :, 0]
    channels, height, width = shape

    def place(c, i, j):
        return (i * width + j) * channels + c

    seen = 0
    positions = list(itertools.product(range(channels), range(height), range(width)))
    for (c, i, j), (d, k, m) in itertools.product(positions, positions):
        gradient = float(jacobian[c, i, j, d, k, m])
        if place(d, k, m) >= place(c, i, j):
            assert gradient == 0.0
        seen += gradient != 0.0
    # The left neighbour, the pixel above and earlier channels of the own pixel are really used.
    middle = (height // 2, width // 2)
    for c in range(channels):
        assert jacobian[c, *middle, c, middle[0], middle[1] - 1] != 0
        assert jacobian[c, *middle, c, middle[0] - 1, middle[1]] != 0
        for d in range(c):
            assert jacobian[c, *middle, d, *middle] != 0
    assert seen > len(positions) ** 2 / 4


@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 3), 2), ((1, 2, 2), 3), ((3, 1, 2), 2)])
def test_probabilities_of_all_images_sum_to_one(shape, levels):
    net = network(shape, levels)
    size = torch.Size(shape).numel()
    every = torch.tensor(list(itertools.product(range(levels), repeat=size))).view(-1, *shape)
    with torch.no_grad():
        log_p = net.log_prob(from_levels(every, levels).double(), RandomStream(0, "unused"))
    assert log_p.shape == (levels**size,)
    assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(log_p.std()) > 0.1


def test_samples_follow_the_enumerated_distribution():
    net = network((1, 2, 2), 2)
    every = torch.tensor(list(itertools.product(range(2), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        p = net.log_prob(from_levels(every, 2).double(), RandomStream(0, "unused")).exp()
    n = 40_000
    drawn = net.sample(n, RandomStream(0, "sample"))
    index = ((drawn.flatten(1) + 1) / 2).long() @ torch.tensor([8, 4, 2, 1])
    counts = torch.bincount(index, minlength=16).double()
    chi_squared = float(((counts - n * p) ** 2 / (n * p)).sum())
    assert chi_squared < 37.7  # the 0.1 % point of chi-squared with 15 degrees of freedom


SCANS = [
    ((1, 9, 7), 2, 3),
    ((1, 6, 6), 256, 3),
    ((3, 5, 4), 8, 3),
    ((1, 4, 8), 2, 5),
    ((1, 1, 3), 2, 3),
]


@pytest.mark.parametrize(("shape", "levels", "kernel"), SCANS, ids=str)
def test_cached_scan_equals_the_plain_scan_number_for_number(shape, levels, kernel):
    net = network(shape, levels, kernel=kernel)
    noise = RandomStream(3, "scan").uniform(4, *shape).double()
    x = images(4, shape, levels)
    given = RandomStream(4, "given").uniform(4, 1, *shape[1:]).lt(0.3).expand_as(x)
    for known in (torch.zeros_like(given), given):
        cached, plain = cached_scan(net, x, known, noise), plain_scan(net, x, known, noise)
        assert torch.equal(cached, plain)
        assert torch.equal(cached[known], x[known])
    assert len(cached.unique()) > 1


@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 5, 4)], ids=str)
def test_cached_logits_equal_the_full_forward(shape):
    net = network(shape, 5, width=8, depth=3)
    x = images(2, shape, 5)
    scan = CausalScan(torch.zeros_like(x))
    with torch.no_grad():
        whole = net(x)
        for i, j, c in itertools.product(*(range(n) for n in (shape[1], shape[2], shape[0]))):
            scan.move(i, j, c)
            torch.testing.assert_close(net.step(scan), whole[:, c, :, i, j], rtol=0, atol=1e-10)
            scan.place(x[:, c, i, j])
    assert torch.equal(scan.image, x)


def test_cached_logits_in_float32():
    net = network((1, 8, 8), 2, width=16, depth=4).float()
    x = images(8, (1, 8, 8), 2).float()
    scan = CausalScan(torch.zeros_like(x))
    with torch.no_grad():
        whole = net(x)
        for i, j in itertools.product(range(8), range(8)):
            scan.move(i, j, 0)
            torch.testing.assert_close(net.step(scan), whole[:, 0, :, i, j], rtol=1e-5, atol=1e-5)
            scan.place(x[:, 0, i, j])


def test_samples_do_not_depend_on_the_batch():
    net = network((1, 6, 6), 2).float()
    together = net.sample(70, RandomStream(0, "sample"))
    apart = [net.sample(n, RandomStream(0, "sample", first_row=i)) for i, n in ((0, 3), (3, 67))]
    assert torch.equal(together, torch.cat(apart))
    assert together.dtype == torch.float32
    assert set(together.unique().tolist()) == {-1.0, 1.0}


def test_completion_keeps_what_is_given_and_draws_the_rest():
    net = network((3, 4, 4), 4).float()
    x = images(6, (3, 4, 4), 4).float()
    mask = torch.zeros(6, 1, 4, 4)
    mask[:, :, :2] = 1
    filled = net.complete(x, mask, RandomStream(0, "complete"))
    keep = mask.bool().expand_as(x)
    assert torch.equal(filled[keep], x[keep])
    other = net.complete(-x, mask, RandomStream(0, "complete"))
    assert not torch.equal(filled[~keep], other[~keep])  # the lower half depends on the upper
    again = net.complete(torch.where(keep, x, 9.0), mask, RandomStream(0, "complete"))
    assert torch.equal(filled, again)  # what is not given is not looked at


def test_inverse_cdf_by_hand():
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log().expand(6, 3)
    u = torch.tensor([0.0, 0.19, 0.21, 0.49, 0.51, 1.0])
    assert inverse_cdf(logits, u).tolist() == [0, 0, 1, 1, 2, 2]


def test_masks_by_hand():
    layer = MaskedConv2d(3, 3, 3, "A", groups=3)
    assert layer.mask[0, 0].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert layer.mask[:, :, 1, 1].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert MaskedConv2d(3, 3, 1, "B", groups=3).mask[:, :, 0, 0].tolist() == [
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 1],
    ]
    assert groups_of(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert group_bounds(7, 3) == [0, 3, 5, 7]


def test_half_precision_keeps_the_loss_in_float32():
    net = network((1, 8, 8), 2).float()
    x = images(4, (1, 8, 8), 2).float()
    exact = net.log_prob(x, RandomStream(0, "unused"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net.log_prob(x, RandomStream(0, "unused"))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.5)


def test_points_are_refused():
    with pytest.raises(UsageError, match="images"):
        PixelCNN(DataSpec("points", (2,)))


def test_a_pixel_of_the_cached_scan_costs_a_tenth_of_a_full_pass():
    """At 28 x 28; the plain scan's time is that of one forward times the number of pixels."""
    spec = DataSpec("image", (1, 28, 28), levels=2)
    net = PixelCNN(spec, width=32, depth=7)
    x = torch.zeros(16, 1, 28, 28)
    with torch.no_grad():
        net(x)
        plain, cached = [], []
        for seed in range(2):  # interleaved, so that both see the same machine
            start = time.perf_counter()
            net(x)
            middle = time.perf_counter()
            net.sample(16, RandomStream(seed, "sample"))
            plain.append(784 * (middle - start))
            cached.append(time.perf_counter() - middle)
    assert min(plain) > 10 * min(cached)
