"""A9, A10: residual networks, the recurrent generator and the fully connected autoencoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genctl import registry
from genctl.errors import ConfigError
from genctl.networks.layers.gemm_convolution import Conv2d
from genctl.networks.layers.normalisation import SpectralNorm


def build(slot, kind, *facts, **keywords):
    return registry.get(slot, kind).build(*facts, **keywords)


# --- residual networks ----------------------------------------------------------------------------
def conv(inputs, outputs, kernel=3):
    return kernel**2 * inputs * outputs + outputs


def test_resnet_has_the_parameters_of_the_papers_table():
    """Table 3 of SN-GAN, layer by layer: 4×4×256, three blocks up; two blocks down and two more."""
    g, d = 256, 128
    block = 2 * conv(g, g) + conv(g, g, 1) + 2 * 2 * g
    generator = (128 + 1) * 16 * g + 3 * block + 2 * g + conv(g, 3)
    first = conv(3, d) + conv(d, d) + conv(3, d, 1)
    discriminator = first + (2 * conv(d, d) + conv(d, d, 1)) + 2 * 2 * conv(d, d) + d + 1
    with torch.device("meta"):
        networks = [
            build("generator", "resnet", 128, (3, 32, 32)),
            build("discriminator", "resnet", (3, 32, 32), norm="none"),
        ]
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert found == [generator, discriminator]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_resnet_takes_every_multiple_of_four(shape):
    fake = build("generator", "resnet", 5, shape, width=4)(torch.randn(3, 5))
    assert fake.shape == (3, *shape)
    assert fake.abs().max() <= 1
    discriminator = build("discriminator", "resnet", shape, width=6)
    found = discriminator(fake)
    assert found.score.shape == (3,)
    assert found.features.shape == (3, 6)
    for layer in discriminator.modules():
        assert not isinstance(layer, nn.ReLU) or not layer.inplace  # the shortcut needs the input


def test_resnet_pools_the_last_positions_by_sum_or_mean():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    features = []
    for pool in ("sum", "mean"):
        torch.manual_seed(1)
        network = build("discriminator", "resnet", (3, 32, 32), width=4, norm="none", pool=pool)
        features.append(network(x).features)
    assert torch.allclose(features[0], 64 * features[1], rtol=1e-4)


def test_shortcuts_are_where_the_paper_has_them():
    """A 1×1 convolution may change places with nearest upsampling and with mean pooling."""
    torch.manual_seed(0)
    x, one = torch.randn(2, 3, 8, 8), Conv2d(3, 5, 1)
    for resample in (nn.Upsample(scale_factor=2, mode="nearest"), nn.AvgPool2d(2)):
        assert torch.allclose(one(resample(x)), resample(one(x)), atol=1e-5)


def test_resnet_starts_from_glorots_weights():
    """Uniform within √(6 / (fan in + fan out)), times √2 in the residual branches."""
    network = build("discriminator", "resnet", (3, 16, 16), width=16, norm="none")
    block = network.layers[1]
    bound = (6 / (2 * 9 * 16)) ** 0.5
    for layer in block.residual:
        if isinstance(layer, nn.Conv2d):
            assert (
                0.97 * bound * 2**0.5 < float(layer.weight.detach().abs().max()) <= bound * 2**0.5
            )
    assert float(network.score.weight.detach().abs().max()) <= (6 / 17) ** 0.5
    assert all(not m.bias.any() for m in network.modules() if isinstance(m, nn.Conv2d))


def test_every_weight_of_an_sngan_discriminator_has_the_norm_one():
    torch.manual_seed(0)
    network = build("discriminator", "resnet", (3, 16, 16), width=8)
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        for _ in range(60):
            network(x)
    network.eval()
    linear = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(linear) == sum(isinstance(m, SpectralNorm) for m in network.modules()) == 8
    for layer in linear:
        sigma = torch.linalg.matrix_norm(layer.weight.detach().flatten(1).double(), 2)
        assert float(sigma) == pytest.approx(1.0, abs=5e-3)


# --- the recurrent generator ----------------------------------------------------------------------
def test_rnn_is_an_lstm_without_input_that_writes_columns():
    torch.manual_seed(0)
    generator = build("generator", "rnn", 5, (2, 4, 7), width=6).double()
    z = torch.randn(3, 5, dtype=torch.float64)
    cell = nn.LSTMCell(1, 6).double()
    with torch.no_grad():
        cell.weight_hh.copy_(generator.gates.weight)
        cell.bias_hh.copy_(generator.gates.bias)
        cell.bias_ih.zero_()
    h = c = torch.relu(generator.start(z))
    x = generator(z)
    assert x.shape == (3, 2, 4, 7)
    for column in range(7):
        h, c = cell(z.new_zeros(3, 1), (h, c))
        expected = torch.tanh(generator.column(h)).view(3, 2, 4)
        assert torch.allclose(x[..., column], expected, atol=1e-12)


def test_rnn_starts_as_the_paper_says():
    """Glorot's weights for each gate, forget bias 1, every other bias 0; all of it learns."""
    generator = build("generator", "rnn", 8, (1, 8, 8), width=32)
    bound = (6 / 64) ** 0.5
    assert 0.97 * bound < float(generator.gates.weight.detach().abs().max()) <= bound
    assert generator.gates.bias.view(4, 32).mean(1).tolist() == [0.0, 1.0, 0.0, 0.0]
    generator(torch.randn(4, 8)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in generator.parameters())


def test_rnn_writes_no_points():
    with pytest.raises(ConfigError, match="columns"):
        build("generator", "rnn", 5, (2,))


# --- the autoencoder as discriminator -------------------------------------------------------------
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 12, 20)])
def test_its_energy_is_the_mean_squared_error_and_its_features_the_code(shape):
    torch.manual_seed(0)
    network = build("discriminator", "mlp-autoencoder", shape, latent_dim=3, width=8)
    x = torch.randn(4, *shape)
    found = network(x)
    rebuilt = network.decoder(network.encoder(x))
    assert rebuilt.shape == x.shape
    assert torch.allclose(found.score, (x - rebuilt).square().flatten(1).mean(1), atol=1e-6)
    assert torch.equal(found.features, network.encoder(x))
    assert network.output == "energy"


def test_its_noise_is_on_what_the_encoder_sees_only():
    """A denoising autoencoder: the error is to the clean example."""
    torch.manual_seed(0)
    network = build("discriminator", "mlp-autoencoder", (2,), width=8, noise=3.0)
    x = torch.randn(50, 2)
    noisy = network(x).score
    network.eval()
    assert not torch.equal(noisy, network(x).score)
    with torch.no_grad():  # a decoder that is constant does not care
        for parameter in network.decoder.parameters():
            parameter.zero_()
    expected = x.square().mean(1)
    assert torch.equal(network.train()(x).score, expected)
