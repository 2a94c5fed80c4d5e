"""A13 and T10: gradients of the whole k-step map against finite differences, in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from genctl import registry
from genctl.config.schema import EmaConfig, RunConfig, TrainConfig
from genctl.engine.averaging import Average
from genctl.engine.optimisers import next_step
from genctl.engine.update import Updater
from genctl.errors import ConfigError
from genctl.models.differentiable_steps import begin, flat, unflat
from genctl.models.unrolled import is_zero_sum
from genctl.randomness import RandomStream
from genctl.types import Batch, DataSpec, NextStep

RULES = {
    "adam": {"kind": "adam", "lr": 0.02, "betas": [0.5, 0.99]},
    "adam-decay": {"kind": "adam", "lr": 0.02, "betas": [0.0, 0.9], "weight_decay": 0.1},
    "adamw": {"kind": "adamw", "lr": 0.02, "weight_decay": 0.1},
    "sgd": {"kind": "sgd", "lr": 0.3},
    "sgd-momentum": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "rmsprop": {"kind": "rmsprop", "lr": 0.02},
    "rmsprop-momentum": {"kind": "rmsprop", "lr": 0.02, "momentum": 0.5},
}
MLP = {"kind": "mlp", "width": 5, "depth": 1}
POINTS, PICTURES = DataSpec("points", (2,), levels=0), DataSpec("image", (1, 8, 8))


@pytest.fixture(autouse=True)
def _float64(monkeypatch):
    """Networks give their scores in float32 to be safe from bfloat16; here they stay exact."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


class Game:
    """An adversarial model with its update, warmed up, that can be asked for its loss."""

    def __init__(
        self, spec=POINTS, rule="adam", warm=3, batch=6, schedule=None, device="cpu", **model
    ):
        node = {"kind": "adversarial", "latent_dim": 2, "generator": MLP, "discriminator": MLP}
        node, problems = registry.resolve("model", {**node, **model}, "model")
        assert not problems
        torch.manual_seed(0)
        self.model = registry.factory("model", node)(spec).to(device)
        found = {**RULES[rule], **({"schedule": schedule} if schedule else {})}
        optim = registry.resolve("optimiser", found, "optim")[0]
        players = {"discriminator": optim, "generator": {**optim, "lr": 1e-3}}
        config = RunConfig(model=node, optim=players, train=TrainConfig(batch_size=batch))
        average = Average(self.model, EmaConfig())
        self.update = Updater(self.model, config, average, "fp32", lambda: 0)
        self.batches = self.endless(spec.shape, batch)
        for step in range(1, warm + 1):
            self.step(step)
        self.batch = next(self.batches)

    def endless(self, shape, n):
        rng = RandomStream(0, "data", device=self.update.device)
        while True:
            yield Batch(rng.normal(n, *shape).tanh() + 0.5)

    def step(self, number):
        self.update.begin_step(number, False)
        return self.model.training_step(self.batches, self.update)

    def loss(self):
        """The generator's loss, always with the noise of the same step."""
        self.update.begin_step(99, False)
        ahead = self.model.unrolled_loss if self.model.unroll else self.model.generator_loss
        return ahead(self.batch, update=self.update)[0]

    def gradient(self):
        weights = list(self.model.generator.parameters())
        self.model.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        return torch.autograd.grad(self.loss(), weights)

    def slope_along(self, direction, h=1e-5):
        """Central difference of the loss of the whole map, along a direction of G's weights."""
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, part in zip(self.model.generator.parameters(), direction, strict=True):
                    weight.add_(part, alpha=sign * h)
            values.append(float(self.loss().detach()))
            with torch.no_grad():
                for weight, part in zip(self.model.generator.parameters(), direction, strict=True):
                    weight.add_(part, alpha=-sign * h)
        return (values[0] - values[1]) / (2 * h)


def assert_slope(game, rel=1e-5):
    generator = torch.Generator().manual_seed(1)
    gradient = game.gradient()
    for _ in range(2):
        direction = [torch.randn(g.shape, generator=generator) for g in gradient]
        exact = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
        assert game.slope_along(direction) == pytest.approx(exact, rel=rel)


# --- the steps ----------------------------------------------------------------------------------
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("rule", RULES)
def test_a_pure_step_is_the_optimisers_own(rule, before):
    """Three steps from where torch's optimiser stands, beside three of torch's."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    built = registry.factory("optimiser", registry.resolve("optimiser", RULES[rule], "o")[0])
    optimiser = built(weights).optimiser

    def move():
        for weight in weights:
            weight.grad = (3 * weight).cos().detach()
        optimiser.step()

    for _ in range(before):
        move()
    coming = next_step(optimiser, RULES[rule]["lr"], weights)
    step, moments = begin(coming, weights)
    theta = flat(weights)
    for _ in range(3):
        theta, moments = step(theta, (3 * theta).cos(), moments)
        move()
    for part, weight in zip(unflat(theta, weights), weights, strict=True):
        assert torch.allclose(part, weight, rtol=0, atol=1e-12)


def test_weights_that_never_had_a_gradient_have_a_derivative():
    """√v at v = 0 has none; the step of such weights is 0, and so is its derivative."""
    coming = NextStep(
        "adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-8, "weight_decay": 0}, [{}]
    )
    step, moments = begin(coming, [torch.zeros(2)])
    gradient = torch.tensor([0.0, 1.0], requires_grad=True)
    theta, _ = step(torch.zeros(2), gradient, moments)
    assert theta.tolist() == pytest.approx([0.0, -0.1])
    (slope,) = torch.autograd.grad(theta.sum(), gradient)
    assert torch.isfinite(slope).all()


def test_fresh_moments_would_teach_nothing():
    """Adam's first step is lr·sign(gradient): why the lookahead begins from D's own moments."""
    coming = NextStep(
        "adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-8, "weight_decay": 0}, [{}]
    )
    step, moments = begin(coming, [torch.zeros(1)])
    gradient = torch.tensor([0.3], requires_grad=True)
    (slope,) = torch.autograd.grad(step(torch.zeros(1), gradient, moments)[0], gradient)
    assert abs(float(slope)) < 1e-6


def test_a_clipped_step_is_clipped_when_looked_ahead_to():
    from genctl.models.unrolled import _clipped

    for scale in (0.1, 3.0):  # below and above the limit
        parameter = torch.nn.Parameter(torch.zeros(3, 2))
        parameter.grad = scale * torch.arange(6.0).view(3, 2)
        gradient = parameter.grad.reshape(-1).clone().requires_grad_()
        torch.nn.utils.clip_grad_norm_([parameter], 2.0)
        found = _clipped(gradient, 2.0)
        assert torch.allclose(found, parameter.grad.reshape(-1), rtol=1e-6)
        assert torch.autograd.grad(found.sum(), gradient)[0].isfinite().all()
        assert _clipped(gradient, None) is gradient


# --- the gradient through k steps -----------------------------------------------------------------
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("rule", ["adam", "sgd", "sgd-momentum", "rmsprop"])
def test_the_gradient_is_that_of_the_whole_map(rule, k):
    assert_slope(Game(rule=rule, unroll=k, objective={"kind": "minimax"}))


def test_every_weight_of_the_generator_gets_its_derivative(device):
    game = Game(unroll=2, objective={"kind": "minimax"}, device=device)
    gradient = game.gradient()
    for i, g in enumerate(gradient):
        for j in range(g.numel()):
            direction = [torch.zeros_like(other) for other in gradient]
            direction[i].view(-1)[j] = 1.0
            assert game.slope_along(direction) == pytest.approx(float(g.view(-1)[j]), abs=1e-8)


OBJECTIVES = [
    "minimax",
    "non-saturating",
    "maximum-likelihood",
    "least-squares",
    "hinge",
    "wasserstein",
    "f-divergence",
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_unrolls(objective):
    assert_slope(Game(unroll=2, objective={"kind": objective}))


@pytest.mark.parametrize(
    "parts",
    [
        {"penalty": {"kind": "gradient-penalty", "weight": 0.5}},
        {"penalty": {"kind": "dragan", "weight": 0.5}},
        {"historical_averaging": 0.3},
        {"history": 12},
    ],
    ids=["gradient-penalty", "dragan", "historical-averaging", "history"],
)
def test_what_is_added_to_the_discriminators_loss_is_unrolled_too(parts):
    assert_slope(Game(unroll=2, **parts))


@pytest.mark.parametrize(
    ("discriminator", "penalty"),
    [
        ({"kind": "dcgan", "width": 2}, None),
        ({"kind": "conv-critic", "width": 2}, {"kind": "gradient-penalty", "weight": 0.5}),
        ({"kind": "mlp", "width": 4, "activation": "elu"}, {"kind": "gradient-penalty"}),
    ],
    ids=["batch-norm", "transposed-chain", "differentiated-twice"],
)
def test_pictures_unroll(discriminator, penalty):
    generator = {"kind": "rnn", "width": 3}
    parts = {"generator": generator, "discriminator": discriminator, "penalty": penalty}
    assert_slope(Game(PICTURES, unroll=2, **parts), rel=1e-4)


@pytest.mark.parametrize("objective", ["minimax", "wasserstein"])
def test_a_discriminator_that_hardly_moves_gives_the_plain_game(objective):
    """As its rate goes to zero, −J_D at θ_D^K has the gradient of the zero-sum game, k = 0."""
    schedule = {"kind": "linear", "start": 3, "end": 4, "final": 0.0}
    games = [
        Game(unroll=k, warm=0, objective={"kind": objective}, schedule=schedule) for k in (0, 4)
    ]
    for game in games:
        game.update.players["discriminator"].count = 5  # the rate is zero from here on
    for plain, ahead in zip(*(game.gradient() for game in games), strict=True):
        assert torch.allclose(plain, ahead, rtol=0, atol=1e-12)
        assert plain.abs().max() > 1e-4
    games[1].update.players["discriminator"].count = 0
    moved = torch.cat([g.flatten() for g in games[1].gradient()])
    still = torch.cat([g.flatten() for g in games[0].gradient()])
    assert (moved - still).abs().max() > 1e-4, "with its rate the lookahead makes a difference"


@pytest.mark.parametrize("k", [0, 3])
def test_one_step_is_one_update_of_each_and_looking_ahead_moves_nothing(k):
    parts = {
        "discriminator": {"kind": "dcgan", "width": 2},
        "generator": {"kind": "rnn", "width": 3},
    }
    game = Game(PICTURES, warm=0, unroll=k, **parts)
    update, seen = game.update, {}
    apply = update._apply

    def watched(player, norm):
        apply(player, norm)
        if player == "discriminator":
            seen["D"] = {k: v.clone() for k, v in game.model.discriminator.state_dict().items()}
            seen["moments"] = state_of(update)

    update._apply = watched
    for number in range(1, 4):
        game.step(number)
        assert (update.count("discriminator"), update.count("generator")) == (number, number)
        after = game.model.discriminator.state_dict()
        trained = [n for n, _ in game.model.discriminator.named_parameters()]
        still = after if k else trained  # the plain game's batch norm sees the fakes once more
        assert all(torch.equal(seen["D"][name], after[name]) for name in still)
        assert all(map(torch.equal, seen["moments"], state_of(update)))


def state_of(update):
    state = update.players["discriminator"].rule.optimiser.state
    return [t.clone() for kept in state.values() for t in kept.values()]


def test_the_batch_is_that_of_the_discriminators_update():
    """The authors' notebook: one real batch for D's step, all k steps ahead, and f."""
    game = Game(unroll=2, warm=0)
    seen = []
    for name in ("discriminator_loss", "unrolled_loss"):
        loss = getattr(game.model, name)
        setattr(game.model, name, lambda b, update, loss=loss: (seen.append(b), loss(b, update))[1])
    game.step(1)
    assert len(seen) == 2
    assert seen[0] is seen[1]


# --- what does not go together -------------------------------------------------------------------
@pytest.mark.parametrize(
    "parts",
    [
        {"constraint": {"kind": "weight-clip"}},
        {"terms": [{"kind": "feature-matching"}]},
    ],
)
def test_what_does_not_unroll_is_refused_with_the_remedy(parts):
    with pytest.raises(ConfigError) as error:
        Game(unroll=1, warm=0, **parts)
    assert "--set model.unroll=0" in error.value.remedy
    Game(unroll=0, warm=0, **parts)


def test_an_optimiser_without_a_differentiable_step_is_refused():
    with pytest.raises(ConfigError, match=r"lbfgs cannot be differentiated"):
        begin(NextStep("lbfgs", {}, []), [])


def test_zero_sum_games():
    zero_sum = {"minimax", "wasserstein", "f-divergence"}
    for name in [*OBJECTIVES, "energy-margin", "boundary-equilibrium"]:
        node = registry.resolve("objective", name, "o")[0]
        assert is_zero_sum(registry.factory("objective", node)()) == (name in zero_sum), name
    node = registry.resolve("objective", {"kind": "f-divergence", "generator": "heuristic"}, "o")[0]
    assert not is_zero_sum(registry.factory("objective", node)())


# --- T10 ----------------------------------------------------------------------------------------
class Bilinear(torch.nn.Module):
    """One weight, times what comes in; or, as a generator, whatever comes in."""

    def __init__(self, generator):
        super().__init__()
        self.weight, self.generator = torch.nn.Parameter(torch.tensor([1.0])), generator

    def forward(self, x):
        from genctl.types import Discrimination

        if self.generator:
            return self.weight.expand(len(x), 1)
        return Discrimination((self.weight * x).flatten(), None)


@pytest.mark.parametrize("kind", ["simultaneous", "fixed"])
def test_order_of_updates(kind):
    """Data at zero and D(x) = wx against G = θ is V = wθ: w ascends, θ descends."""
    spec = DataSpec("points", (1,), levels=0)
    game = Game(spec, rule="sgd", warm=0, objective={"kind": "wasserstein"}, play={"kind": kind})
    model, eta, steps = game.model, 0.1, 150
    model.generator, model.discriminator = Bilinear(True), Bilinear(False)
    game.update.__init__(
        model,
        RunConfig(
            model={"kind": "adversarial"},
            optim=dict.fromkeys(
                ("discriminator", "generator"),
                registry.resolve("optimiser", {"kind": "sgd", "lr": eta}, "o")[0],
            ),
            train=TrainConfig(batch_size=6),
        ),
        Average(model, EmaConfig()),
        "fp32",
        lambda: 0,
    )
    game.batches = iter(lambda: Batch(torch.zeros(6, 1)), None)
    sizes = [2.0]
    for number in range(1, steps + 1):
        game.step(number)
        w, theta = model.discriminator.weight.item(), model.generator.weight.item()
        sizes.append(w * w + theta * theta)
    assert game.update.count("generator") == game.update.count("discriminator") == steps
    if kind == "simultaneous":
        for before, after in itertools.pairwise(sizes):
            assert after == pytest.approx(before * (1 + eta**2), rel=1e-12)
    else:
        assert max(sizes) < 1.2 * sizes[0]
        assert max(sizes[-70:]) > 0.9 * sizes[0], "it circles: bounded, and no nearer"
        assert math.isfinite(sizes[-1])
