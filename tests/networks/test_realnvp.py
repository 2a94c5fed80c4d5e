"""RealNVP against autograd's Jacobian, its own inverse's definition, and numerical integration."""

from __future__ import annotations

import math

import pytest
import torch

from genctl.data.ranges import from_levels
from genctl.data.toys import moons
from genctl.networks.layers.coupling import channel_mask, checkerboard_mask
from genctl.networks.layers.flow_norm import FlowBatchNorm
from genctl.networks.layers.squeeze import squeeze, unsqueeze
from genctl.networks.realnvp import RealNVP
from genctl.randomness import RandomStream
from genctl.types import DataSpec

SHAPES = [(1,), (2,), (5,), (1, 4, 4), (3, 4, 4), (1, 6, 10), (1, 7, 7), (2, 3, 2), (1, 8, 8)]


def network(
    shape: tuple[int, ...], norm: str = "batch", levels: int = 256, **taste: int
) -> RealNVP:
    """A small network with every parameter and running moment away from its start, in float64."""
    spec = DataSpec("image" if len(shape) == 3 else "points", shape, levels=levels)
    torch.manual_seed(1)
    net = RealNVP(spec, **{"width": 6, "depth": 1, "couplings": 2, **taste}, norm=norm).double()
    with torch.no_grad():
        for parameter in net.parameters():
            # Images have many more layers to stretch through: keep the map well conditioned.
            amount = 0.3 if net.spec.kind == "points" else 0.1
            parameter.add_(amount * torch.randn_like(parameter))
        for layer in net.modules():
            if isinstance(layer, FlowBatchNorm):
                layer.running_mean.normal_(std=0.5)
                layer.running_variance.uniform_(0.3, 2.0)
    return net.eval()


def inputs(net: RealNVP, n: int = 3) -> torch.Tensor:
    """Points, or images on the unit range."""
    torch.manual_seed(2)
    if net.spec.kind == "points":
        return torch.randn(n, *net.spec.shape, dtype=torch.float64)
    return torch.rand(n, *net.spec.shape, dtype=torch.float64)


@pytest.mark.parametrize("norm", ["none", "batch", "activation"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_log_determinant_is_autograds(shape, norm):
    net = network(shape, norm)
    for x in inputs(net, 2):

        def flat(v):
            return net(v.view(1, *shape))[0][0]

        jacobian = torch.autograd.functional.jacobian(flat, x.reshape(-1))
        expected = torch.linalg.slogdet(jacobian)[1]
        found = net(x[None])[1][0]
        assert abs(float(expected)) > 1e-3  # a trivial map would prove nothing
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["none", "batch", "activation"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inverse_undoes_forward(shape, norm):
    net = network(shape, norm)
    x = inputs(net)
    z, _ = net(x)
    assert z.shape == (3, math.prod(shape))
    torch.testing.assert_close(net.inverse(z), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(2,), (1, 28, 28), (3, 8, 8)], ids=str)
def test_inverse_in_float32(shape):
    net = network(shape, couplings=3).float()
    x = inputs(net).float()
    torch.testing.assert_close(net.inverse(net(x)[0]), x, rtol=0, atol=1e-5)


def test_every_variable_is_transformed():
    """Each coordinate of the input moves, and is scaled by something that depends on the others."""
    net = network((1, 8, 8), norm="none")
    x = inputs(net, 1)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v)[0][0], x).view(64, 64)
    assert bool((jacobian.abs() > 1e-12).sum(0).gt(1).all())
    assert bool((jacobian.abs() > 1e-12).sum(1).gt(1).all())


def test_couplings_keep_what_the_masks_say():
    net = network((1, 4, 4), norm="none")
    first = net.scales[0].before.layers[0]
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    y, _ = first(x)
    keeps = checkerboard_mask((1, 4, 4), 0).bool().expand_as(x)
    assert torch.equal(y[keeps], x[keeps])
    assert bool((y[~keeps] != x[~keeps]).all())
    assert channel_mask((5, 2, 2), 0).sum() + channel_mask((5, 2, 2), 1).sum() == 5


def test_squeeze_by_hand():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = squeeze(x)
    assert y[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert y[0, :, 1, 1].tolist() == [10, 11, 14, 15]
    colour = torch.randn(2, 3, 6, 4)
    assert torch.equal(unsqueeze(squeeze(colour)), colour)
    # A channel's first half is whole pixels: position first, colour second.
    assert torch.equal(squeeze(colour)[:, 3:6], colour[:, :, ::2, 1::2])


@pytest.mark.parametrize(
    ("shape", "scales"),
    [((1, 28, 28), 2), ((1, 8, 8), 2), ((3, 6, 6), 1), ((1, 5, 8), 0), ((1, 2, 2), 0)],
)
def test_scales_end_where_the_size_does(shape, scales):
    net = network(shape)
    assert len(net.scales) == scales
    x = inputs(net)
    torch.testing.assert_close(net.inverse(net(x)[0]), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", ["none", "batch", "activation"])
def test_density_of_points_integrates_to_one(norm):
    net = network((2,), norm, couplings=3)
    rng = RandomStream(0, "unused")
    # The mass lies where a wide normal in latent space lands.
    reach = net.inverse(7 * torch.randn(4000, 2, dtype=torch.float64).clamp(-1, 1)).detach()
    low, high = reach.amin(0) - 1, reach.amax(0) + 1
    axes = [
        torch.linspace(float(a), float(b), 1200).double() for a, b in zip(low, high, strict=True)
    ]
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    with torch.no_grad():
        total = sum(
            float(net.log_prob(rows, rng).exp().sum())
            for rows in torch.cartesian_prod(*axes).split(200_000)
        )
    assert total * cell == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("levels", [2, 5])
def test_levels_of_two_pixels_sum_to_at_most_one(levels):
    """The bound on P(levels), made tight by quadrature over the dequantisation, is a distribution.

    ∑_k ∫ p(k + u) du is the density's mass on the unit square, which is below 1 only by what the
    logit's margins (alpha) let out.
    """
    net = network((1, 1, 2), levels=levels)
    grid = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    v = torch.cartesian_prod(grid, grid).view(-1, 1, 1, 2)
    with torch.no_grad():
        z, log_det = net(v)
        log_density = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(1) + log_det
    inside = float(log_density.exp().mean())
    assert 0.5 < inside < 1.0
    # The same mass from samples of the inverse: those that fall inside need no clamping.
    drawn = net.inverse(torch.randn(20_000, 2, dtype=torch.float64)).flatten(1)
    share = float(((drawn > 0) & (drawn < 1)).all(1).double().mean())
    assert inside == pytest.approx(share, abs=0.015)

    # log_prob is that log-density at the dequantised image, with each level 1/levels wide.
    k = torch.randint(levels, (50, 1, 1, 2))
    x = from_levels(k, levels).double()
    noise = RandomStream(0, "noise").uniform(50, 1, 1, 2).double()
    z, log_det = net((k + noise) / levels)
    expected = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(1) + log_det
    found = net.log_prob(x, RandomStream(0, "noise"))
    torch.testing.assert_close(found, expected - 2 * math.log(levels), rtol=1e-9, atol=1e-9)


def test_samples_hold_levels_and_follow_the_density():
    net = network((1, 1, 2), levels=3)
    x = net.sample(20_000, RandomStream(0, "sample"))
    counts = torch.bincount((x.flatten(1) + 1).round().long() @ torch.tensor([3, 1]), minlength=9)
    assert set(x.unique().tolist()) == {-1.0, 0.0, 1.0}
    grid = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    v = torch.cartesian_prod(grid, grid).view(-1, 1, 1, 2)
    with torch.no_grad():
        z, log_det = net(v)
    density = ((-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(1) + log_det).exp()
    cells = density.view(3, 100, 3, 100).mean((1, 3)).flatten() / 9
    # The middle level gets no clamped mass, so its cell is exact up to the noise of counting.
    assert float(counts[4]) / 20_000 == pytest.approx(float(cells[4]), abs=0.012)
    assert bool((counts.double() / 20_000 > cells - 0.012).all())


def test_batch_norm_uses_the_batch_in_training_and_remembers_it():
    layer = FlowBatchNorm(3, momentum=0.5, epsilon=0.0).double()
    x = 2 * torch.randn(64, 3, 4, 4, dtype=torch.float64) + 5
    y, log_det = layer(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(3).double())
    variance = x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(log_det, (-0.5 * 16 * variance.log().sum()).expand(64))
    torch.testing.assert_close(layer.running_variance, 0.5 + 0.5 * variance)


def test_activation_norm_starts_from_the_first_batch():
    spec = DataSpec("points", (2,))
    net = RealNVP(spec, width=4, couplings=2, norm="activation").double()
    x = torch.randn(500, 2, dtype=torch.float64) * torch.tensor([3.0, 0.1]) + 7
    net.initialise(x, RandomStream(0, "start"))
    z, _ = net(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2).double(), rtol=0, atol=1e-4)
    again = net(x + 1)[0].detach()  # only the first batch counts
    assert float(again.mean().abs()) > 0.1


def test_encode_and_decode_of_images():
    net = network((1, 4, 4))
    k = torch.randint(256, (5, 1, 4, 4))
    x = from_levels(k, 256).double()
    torch.testing.assert_close(net.decode(net.encode(x)), x, rtol=0, atol=1e-7)


def test_log_scale_is_bounded():
    net = network((2,), norm="none", couplings=1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1e4)
    x = 100 * torch.randn(50, 2, dtype=torch.float64)
    assert net(x)[1].abs().max().item() <= 4.0


@pytest.mark.slow
def test_moons_in_a_short_training():
    """Near the entropy, and never below it, which only a wrong log-determinant could reach.

    The full run of the preset realnvp-moons is what comes within 0.05 nats.
    """
    toy = moons()
    torch.manual_seed(0)
    spec = DataSpec("points", (2,))
    net = RealNVP(spec, width=32, depth=2, couplings=8, norm="activation")
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2, fused=True)
    steps, rows = 800, 256
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = RandomStream(0, "train")
    batches = toy.draw(steps * rows, rng).split(rows)
    net.initialise(batches[0], rng)
    for batch in batches:
        loss = -net.log_prob(batch, rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x = toy.draw(20_000, RandomStream(1, "test"))
    with torch.no_grad():
        model = -net.eval().log_prob(x, rng).mean()
    truth = -toy.log_prob(x).mean()  # the same draws: their noise cancels
    assert -1e-2 < float(model) - float(truth) < 0.25  # a Gaussian is about 1 nat above
    assert toy.entropy() == pytest.approx(float(truth), abs=0.02)
