"""A1, A2, A4, A11 and T1–T4 against values worked by hand, closed forms and scripted games."""

from __future__ import annotations

import math

import pytest
import torch

from genctl import registry
from genctl.errors import ConfigError
from genctl.models.history import HistoryPool
from genctl.models.play import Adaptive, Fixed
from genctl.models.watching import diversity
from genctl.objectives.adversarial import Minimax, NonSaturating
from genctl.objectives.boundary_equilibrium import BoundaryEquilibrium
from genctl.randomness import RandomStream

SCORES = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64)


def sigmoid(v):
    return 1.0 / (1.0 + math.exp(-v))


@pytest.mark.parametrize("objective", [Minimax(), NonSaturating()])
def test_discriminator_values_by_hand(objective):
    for score, real, fake in zip(
        SCORES, objective.real(SCORES), objective.fake(SCORES), strict=True
    ):
        s = sigmoid(float(score))
        assert float(real) == pytest.approx(-math.log(s), rel=1e-12)
        assert float(fake) == pytest.approx(-math.log(1 - s), rel=1e-12)


def test_generator_values_by_hand():
    for score, a, b in zip(
        SCORES, Minimax().generator(SCORES), NonSaturating().generator(SCORES), strict=True
    ):
        s = sigmoid(float(score))
        assert float(a) == pytest.approx(math.log(1 - s), rel=1e-12)
        assert float(b) == pytest.approx(-math.log(s), rel=1e-12)


def test_equilibrium_values():
    """D(x) = 0 everywhere: D's loss 2 log 2, G's log 2, and −log 2 in the minimax game."""
    zero = torch.zeros(3)
    for objective in (Minimax(), NonSaturating()):
        loss = objective.real(zero) + objective.fake(zero)
        assert torch.allclose(loss, torch.full((3,), 2 * math.log(2)))
    assert torch.allclose(NonSaturating().generator(zero), torch.full((3,), math.log(2)))
    assert torch.allclose(Minimax().generator(zero), torch.full((3,), -math.log(2)))


def test_the_saturating_gradient_vanishes_and_the_heuristic_one_does_not():
    score = torch.tensor([-20.0], dtype=torch.float64, requires_grad=True)
    (vanishing,) = torch.autograd.grad(Minimax().generator(score).sum(), score)
    (alive,) = torch.autograd.grad(NonSaturating().generator(score).sum(), score)
    assert -1e-8 < float(vanishing) < 0
    assert float(alive) == pytest.approx(-1.0, abs=1e-8)


def test_label_smoothing_is_one_sided():
    """T4: cross-entropy with target 0.9 for real; generated examples are untouched."""
    smooth, plain = NonSaturating(real_target=0.9), NonSaturating()
    for score, loss in zip(SCORES, smooth.real(SCORES), strict=True):
        s = sigmoid(float(score))
        assert float(loss) == pytest.approx(-0.9 * math.log(s) - 0.1 * math.log(1 - s), rel=1e-12)
    assert torch.equal(smooth.fake(SCORES), plain.fake(SCORES))
    best = torch.linspace(-5, 5, 100_001, dtype=torch.float64)
    assert sigmoid(float(best[smooth.real(best).argmin()])) == pytest.approx(0.9, abs=1e-4)


def test_began_values_and_the_control_step_by_hand():
    objective = BoundaryEquilibrium(gamma=0.5, lambda_k=0.1, k0=0.2)
    energies = torch.tensor([0.4, 0.6])
    assert torch.equal(objective.real(energies), energies)
    assert torch.allclose(objective.fake(energies), -0.2 * energies)
    assert torch.equal(objective.generator(energies), energies)
    metrics = objective.adapt(torch.tensor(0.8), torch.tensor(0.3))
    assert float(metrics["began/k"]) == pytest.approx(0.2 + 0.1 * (0.5 * 0.8 - 0.3))
    assert float(metrics["began/m_global"]) == pytest.approx(0.8 + abs(0.4 - 0.3))


def test_began_k_is_clipped_and_saved():
    objective = BoundaryEquilibrium(lambda_k=1.0)
    objective.adapt(torch.tensor(0.0), torch.tensor(5.0))
    assert float(objective.k) == 0.0
    objective.adapt(torch.tensor(9.0), torch.tensor(0.0))
    assert float(objective.k) == 1.0
    assert "k" in objective.state_dict()


def test_began_control_loop_holds_gamma():
    """With energies that answer to k as in training (more k, worse fakes), L(G)/L(x) settles at γ."""
    objective = BoundaryEquilibrium(gamma=0.5, lambda_k=0.01)
    real = torch.tensor(1.0)
    for _ in range(5000):
        fake = 0.2 + 0.6 * objective.k
        objective.adapt(real, fake)
    assert float(fake / real) == pytest.approx(0.5, abs=1e-3)
    assert 0 < float(objective.k) < 1


class Scripted:
    """Stands in for the update: moves return scripted losses."""

    def __init__(self, losses):
        self.losses, self.moves = {k: iter(v) for k, v in losses.items()}, []

    def move(self, player):
        def act():
            self.moves.append(player)
            return torch.tensor(next(self.losses[player]))

        return act

    def read(self, value):
        return float(value)


def play(schedule, script):
    before = len(script.moves)
    schedule(script.move("D"), script.move("G"), script)
    return "".join(script.moves[before:])


def test_fixed_rhythm():
    script = Scripted({"D": [0.0] * 99, "G": [0.0] * 99})
    assert play(Fixed(discriminator=5, generator=2), script) == "DDDDDGG"


def test_adaptive_gives_the_player_who_is_behind_its_steps():
    """T2: D moves while its loss is above t_D, then G while its loss is above t_G, within bounds."""
    script = Scripted({"D": [2.0, 2.0, 0.5, 0.4, 3.0, 3.0, 3.0, 3.0], "G": [0.1, 0.1, 5.0, 0.1]})
    schedule = Adaptive(discriminator=1.0, generator=1.0, least=1, most=4)
    assert play(schedule, script) == "DDDG"
    assert play(schedule, script) == "DG"
    assert play(schedule, script) == "DDDDGG"


def test_adaptive_refuses_more_moves_at_least_than_at_most():
    with pytest.raises(ConfigError, match="8 moves at least, and 5 at most"):
        Adaptive(least=8)


def test_adaptive_relative_to_the_moving_average():
    script = Scripted({"D": [1.0, 1.0, 2.0, 0.1], "G": [0.0] * 9})
    schedule = Adaptive(discriminator=1.1, generator=9.0, relative="average", decay=0.5, most=3)
    assert play(schedule, script) == "DG"  # loss 1 against average 1
    assert play(schedule, script) == "DG"
    assert play(schedule, script) == "DDG"  # 2 against 1.1 × 1.5: behind, moves again


def test_adaptive_forgets_a_loss_that_is_not_finite():
    """Its update was skipped; the next step must be as if it had not been."""
    script = Scripted({"D": [2.0, float("nan"), 0.5, 0.5], "G": [0.1] * 9})
    schedule = Adaptive(discriminator=1.0, generator=1.0, least=1, most=2)
    assert play(schedule, script) == "DDG"
    assert play(schedule, script) == "DG"
    assert torch.isfinite(schedule.average).all()


def test_adaptive_state_is_saved():
    script = Scripted({"D": [0.5] * 9, "G": [0.5] * 9})
    schedule = Adaptive()
    play(schedule, script)
    twin = Adaptive()
    twin.load_state_dict(schedule.state_dict())
    assert torch.equal(twin.average, schedule.average)
    assert twin.average[:, 2].tolist() == [1.0, 1.0]


class OneRank:
    """Stands in for the update of one step: its noise, and nobody else's rows."""

    def __init__(self, step, device):
        self.rng = RandomStream(0, "pool", step, device=device)

    def gather(self, value):
        return value


def test_history_pool_half_fresh_half_old(device):
    """T3: examples are their own number, so where each comes from can be read off."""
    pool = HistoryPool((1,), 20).to(device)
    first = torch.arange(10.0, device=device)[:, None]
    assert torch.equal(pool.exchange(first, OneRank(0, device)), first)  # empty: nothing old
    second = pool.exchange(first + 100, OneRank(1, device))
    assert torch.equal(second[:5], first[:5] + 100)
    assert set(second[5:, 0].tolist()) <= {5.0, 6.0, 7.0, 8.0, 9.0}
    for i in range(2, 40):
        pool.exchange(first + 100 * i, OneRank(i, device))
    ages = (pool.images[:, 0] // 100).tolist()
    assert int(pool.filled) == 20
    assert len(set(ages)) > 3, "replacement is at random, so several generations live on"
    assert all(5 <= value % 100 <= 9 for value in pool.images[:, 0].tolist())
    twin = HistoryPool((1,), 20).to(device)
    twin.load_state_dict(pool.state_dict())
    a = pool.exchange(first, OneRank(99, device))
    assert torch.equal(a, twin.exchange(first, OneRank(99, device)))


def test_diversity_is_a_ratio_of_mean_pairwise_distances():
    real = torch.tensor([[0.0], [2.0], [4.0]])
    assert float(diversity(real / 2, real)) == pytest.approx(0.5)
    assert float(diversity(torch.zeros(3, 1), real)) == 0.0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 12, 28, 32, 64])
@pytest.mark.parametrize("kernel", [4, 5])
def test_dcgan_takes_every_multiple_of_four(channels, size, kernel):
    shape = (channels, size, size)
    generator = registry.get("generator", "dcgan").build(7, shape, width=4, kernel=kernel)
    discriminator = registry.get("discriminator", "dcgan").build(shape, width=4, kernel=kernel)
    fake = generator(torch.randn(3, 7))
    assert fake.shape == (3, *shape)
    assert fake.abs().max() <= 1
    found = discriminator(fake)
    assert found.score.shape == (3,)
    assert found.features.shape[0] == 3


def test_dcgan_has_the_customary_parameters():
    generator = registry.get("generator", "dcgan").build(100, (3, 64, 64), width=64)
    discriminator = registry.get("discriminator", "dcgan").build((3, 64, 64), width=64)
    assert sum(p.numel() for p in generator.parameters()) == 3_576_704
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_568


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 12, 28, 32])
@pytest.mark.parametrize("kernel", [4, 5])
def test_conv_critic_takes_every_multiple_of_four_and_has_no_norm(channels, size, kernel):
    shape = (channels, size, size)
    critic = registry.get("discriminator", "conv-critic").build(shape, width=4, kernel=kernel)
    pictures = torch.rand(3, *shape) * 2 - 1
    found = critic(pictures)
    assert found.score.shape == (3,)
    assert found.features.shape[0] == 3
    for row in range(3):  # each example alone scores as in the batch
        alone = critic(pictures[row : row + 1]).score
        assert torch.allclose(alone, found.score[row : row + 1], atol=1e-5)


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
def test_began_networks(size):
    shape = (3, size, size)
    generator = registry.get("generator", "began").build(6, shape, width=4)
    discriminator = registry.get("discriminator", "autoencoder").build(shape, latent_dim=6, width=4)
    found = discriminator(generator(torch.randn(2, 6)))
    assert found.score.shape == (2,)
    assert (found.score >= 0).all()
    assert found.features.shape == (2, 6)


def test_began_energy_is_the_mean_absolute_reconstruction_error():
    discriminator = registry.get("discriminator", "autoencoder").build((1, 8, 8), width=4)
    x = torch.randn(3, 1, 8, 8)
    rebuilt = discriminator.decoder(discriminator.encoder(x))
    expected = (x - rebuilt).abs().mean((1, 2, 3))
    assert torch.allclose(discriminator(x).score, expected, atol=1e-6)
