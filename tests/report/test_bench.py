"""The plain loop does the engine's arithmetic, plainly; the bench's numbers hang together."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from genctl.data.dataset import open_dataset
from genctl.data.loader import Loader
from genctl.data.ranges import from_bytes
from genctl.engine.construction import begin, build
from genctl.engine.fit import complete, open_data
from genctl.errors import DataError
from genctl.report import bench as bench_module
from genctl.report import plain_loop, roof
from genctl.report.bench import GATED, bench, random_pictures

sys.path.insert(0, str(Path(__file__).parent.parent / "presets"))
from shrinking import small, unlike

CPU = torch.device("cpu")
NAMES = unlike("generator", "discriminator", "encoder", "density")


def both(name, device=CPU, freeze=False, **changes):
    """The engine's training and the plain loop on the same weights, each with its own batches."""
    config = small(name, **changes)
    dataset = open_data(config, None)
    config = complete(config, dataset, None, device)
    training = build(config, dataset, device)
    begin(training, None)
    model = plain_loop.plain_copy(training.model, config)
    update = plain_loop.PlainUpdate(model, config, freeze=freeze)
    loader = Loader(
        dataset,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        device=device,
        flip=config.data.flip,
        crop=config.data.crop,
        binarise=config.data.binarise,
    )
    return training, model, update, loader


class Recorder:
    """An update that notes the loss of every call."""

    def __init__(self, update):
        self.update, self.losses = update, []

    def __getattr__(self, name):
        return getattr(self.update, name)

    def __call__(self, player, loss_fn, batch=None):
        metrics = self.update(player, loss_fn, batch)
        self.losses.append(float(metrics[f"loss/{player}"]))
        return metrics


def engine_losses(training, step):
    training.update.begin_step(step, False)
    recorder = Recorder(training.update)
    training.model.training_step(training.loader, recorder)
    return recorder.losses


def plain_losses(model, update, batches, step):
    update.begin_step(step)
    recorder = Recorder(update)
    model.training_step(batches, recorder)
    return recorder.losses


# --- equal work ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["dcgan", "gan", "began", "wgan", "wgan-gp", "vae", "realnvp", "rbm", "classifier"]
)
def test_both_loops_compute_the_same_losses(name, device):
    """Clipped weights (wgan), k (began), chains (rbm): all of the algorithm."""
    training, model, update, loader = both(name, torch.device(device))
    for step in range(1, 6):
        mine = engine_losses(training, step)
        assert plain_losses(model, update, loader, step) == pytest.approx(mine, rel=1e-4, abs=1e-4)
    assert all(update.count(p) == training.update.count(p) for p in model.players)


def test_both_loops_clip_alike():
    """So low a bound that Adam's ε shows: without it the loss falls ten times as fast."""
    training, model, update, loader = both("vae", train__clip=1e-8)
    for step in range(1, 9):
        mine = engine_losses(training, step)
        assert plain_losses(model, update, loader, step) == pytest.approx(mine, rel=1e-5)


def test_both_loops_compute_the_same_simultaneous_step():
    training, model, update, loader = both("gan")
    training.update.begin_step(1, False)
    update.begin_step(1)
    ours = training.update, training.model, training.loader
    for moves, m, batches in (ours, (update, model, loader)):
        moves.together(
            {
                "discriminator": lambda b, m=m, u=moves: m.discriminator_loss(b, u),
                "generator": lambda b, u=moves, m=m: m.generator_loss(update=u),
            },
            next(batches),
        )
    for mine, theirs in zip(training.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    assert update.counts == {"discriminator": 1, "generator": 1}


# --- done plainly -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["dcgan", "began", "pixelcnn", "realnvp"])
def test_every_convolution_of_the_plain_loop_is_contiguous(name):
    training, model, update, loader = both(name)
    seen = {"plain": [], "engine": []}
    real = nn.functional.conv2d

    def watched(x, *rest, **more):
        seen[side].append(x.is_contiguous())
        return real(x, *rest, **more)

    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    for side_, m in (("plain", model), ("engine", training.model)):
        for module in m.modules():
            if isinstance(module, convolutions):
                module.register_forward_pre_hook(
                    lambda _, x, s=side_: seen[s].append(x[0].is_contiguous())
                )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.functional.conv2d", watched)
        side = "plain"
        plain_losses(model, update, loader, 1)
        side = "engine"
        engine_losses(training, 1)
    assert len(seen["plain"]) > 2
    assert all(seen["plain"])
    assert not all(seen["engine"]), "the engine runs in channels_last"
    assert all(p.is_contiguous() for p in model.parameters())
    assert torch.channels_last is not torch.contiguous_format


def test_nothing_is_frozen_unless_asked():
    for freeze in (False, True):
        _, model, update, loader = both("dcgan", freeze=freeze)
        update(
            "discriminator", lambda b, m=model, u=update: m.discriminator_loss(b, u), next(loader)
        )
        update.optimisers["discriminator"].zero_grad()
        update("generator", lambda m=model, u=update: m.generator_loss(update=u))
        wasted = [p.grad is not None for p in model.discriminator.parameters()]
        assert not any(wasted) if freeze else all(wasted)


def test_optimisers_are_of_the_same_kind_and_left_to_torch():
    training, _, update, _ = both("dcgan")
    for name, optimiser in update.optimisers.items():
        ours = training.update.players[name].rule.optimiser
        assert type(optimiser) is type(ours)
        assert not optimiser.defaults["fused"]
        for key in ("lr", "betas", "eps", "weight_decay"):
            assert optimiser.defaults[key] == ours.defaults[key]


@pytest.mark.parametrize(
    ("name", "spied"),
    [
        ("dcgan", "genctl.networks.layers.gemm_convolution._apply"),
        ("wgan-gp", "genctl.models.restraints.transposed_chain"),
    ],
)
def test_the_plain_loop_has_none_of_our_shortcuts(name, spied, monkeypatch):
    training, model, update, loader = both(name)
    module, _, function = spied.rpartition(".")
    original = getattr(sys.modules[module], function)
    calls = []
    monkeypatch.setattr(spied, lambda *a, **k: calls.append(1) or original(*a, **k))
    plain_losses(model, update, loader, 1)
    assert not calls
    engine_losses(training, 1)
    assert calls, "the engine takes it"


# --- its data -----------------------------------------------------------------------------------
def test_items_are_the_engines_pictures_and_an_epoch_has_each_once():
    dataset = open_dataset("digits", limit=60)
    config = small("classifier", train__batch_size=20)
    batches = plain_loop.plain_batches(dataset, config, CPU, workers=0)
    seen = []
    for _ in range(3):
        batch = next(batches)
        assert torch.allclose(batch.x, from_bytes(dataset.examples[batch.index]), atol=1e-6)
        assert torch.equal(batch.y, dataset.labels[batch.index])
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(60))
    assert seen != sorted(seen)


def test_items_are_binarised_as_the_engine_does():
    config = small("rbm", data__binarise="threshold", train__batch_size=40)
    dataset = open_dataset("digits", limit=40, binarise="threshold")
    batch = next(plain_loop.plain_batches(dataset, config, CPU, workers=0))
    engine = next(Loader(dataset, batch_size=40, seed=0))
    assert torch.equal(batch.x[batch.index.argsort()], engine.x[engine.index.argsort()])


def test_items_drawn_dynamically_are_grey_on_average():
    config = small("rbm", data__binarise="dynamic", train__batch_size=8)
    dataset = open_dataset("digits", limit=8, binarise="dynamic")
    batches = plain_loop.plain_batches(dataset, config, CPU, workers=0)
    draws = [next(batches) for _ in range(100)]
    drawn = torch.stack([batch.x[batch.index.argsort()] for batch in draws])
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    grey = from_bytes(dataset.examples)
    assert torch.allclose(drawn.mean(0), grey, atol=0.5)  # 5 deviations of a mean of 100
    assert (drawn.mean(0) - grey).abs().mean() < 0.1


def test_fewer_examples_than_a_batch_are_repeated():
    config = small("gan", train__batch_size=32)
    batches = plain_loop.plain_batches(open_dataset("digits", limit=5), config, CPU, workers=0)
    assert [len(next(batches)) for _ in range(3)] == [32, 32, 32]


# --- arithmetic ---------------------------------------------------------------------------------
def products(network, n):
    """FLOPs of one pass through the linear layers, and of the first alone."""
    each = [
        2 * n * m.in_features * m.out_features for m in network.modules() if type(m) is nn.Linear
    ]
    return sum(each), each[0]


@pytest.mark.parametrize("freeze", [True, False])
def test_flops_of_a_gan_of_linear_layers_are_those_counted_by_hand(freeze):
    """A D step: G, D twice, D's two gradients but for its inputs. A G step: G, D, and back."""
    _, model, update, loader = both("gan", freeze=freeze)
    g, g_first = products(model.generator, 8)
    d, d_first = products(model.discriminator, 8)
    discriminator = g + 2 * (d + d + (d - d_first))
    generator = g + d + d + g + (g - g_first)
    wasted = 0 if freeze else d  # the weight gradients that nobody uses
    assert roof.step_flops(model, update, loader) == discriminator + generator + wasted


def test_the_peak_is_a_rate_that_a_product_reaches(device):
    where = torch.device(device)
    peak = roof.matrix_peak(where, "fp32", 0.05)
    a = torch.randn(256, 256, device=where)
    wait = roof.waiter(where)
    wait()
    start = time.perf_counter()
    for _ in range(3):
        a @ a
    wait()
    rate = 3 * 2 * 256**3 / (time.perf_counter() - start)
    assert rate / 50 < peak < 1e16


def test_peak_memory_of_the_process_is_what_the_system_says():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux keeps /proc/self/status")
    found, _ = roof.peak_memory(CPU)
    kibibytes = next(line for line in status.read_text().splitlines() if "VmHWM" in line).split()[1]
    assert found == pytest.approx(1024 * int(kibibytes), rel=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_peak_memory_of_a_gpu_is_that_of_its_tensors():
    where = torch.device("cuda")
    roof.forget_peak(where)
    before, _ = roof.peak_memory(where)
    held = torch.ones(2**24, device=where)
    assert roof.peak_memory(where)[0] == before + 2**26
    del held
    assert roof.peak_memory(where)[0] == before + 2**26


# --- the whole ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_can_be_measured(name):
    found = bench(small(name), device="cpu", seconds=0.1)
    for key in (*GATED, "plain_steps_per_second", "peak_flops_per_second", "flops_per_step"):
        assert math.isfinite(found[key]), key
        assert found[key] > 0, key
    assert found["steps"] >= 2
    assert found["rounds"] >= 1
    assert found["images_per_second"] >= 7.9 * found["steps_per_second"]
    share = found["time_share"]
    assert 0.99 < sum(share.values()) < 1.01
    assert next(iter(share)) == "loader"
    assert list(share)[-2:] == ["optimiser", "rest"]
    assert share["loader"] > 0
    assert share["optimiser"] > 0
    assert sum(part for key, part in share.items() if key not in ("loader", "rest")) > 0.1


def test_numbers_hang_together_and_torch_is_left_as_it_was(device):
    torch.set_float32_matmul_precision("medium")
    try:
        found = bench(small("vae"), device=device, seconds=0.5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    reached = found["flops_per_step"] * found["steps_per_second"]
    assert found["flops_utilisation"] == pytest.approx(reached / found["peak_flops_per_second"])
    low, high = found["ratio_range"]
    assert low <= found["ratio_to_plain"] <= high
    assert found["images_per_second"] == pytest.approx(8 * found["steps_per_second"])


def test_a_slow_plain_loop_shows_in_the_ratio(monkeypatch):
    """The measured ratio follows what is done: 30 ms more in each plain step."""
    original = plain_loop.PlainUpdate._step

    def slow(self, player):
        time.sleep(0.03)
        original(self, player)

    before = bench(small("vae"), device="cpu", seconds=0.5)
    monkeypatch.setattr(plain_loop.PlainUpdate, "_step", slow)
    after = bench(small("vae"), device="cpu", seconds=1.0)
    more = 1 / after["plain_steps_per_second"] - 1 / before["plain_steps_per_second"]
    assert more > 0.02
    assert after["ratio_to_plain"] > 1.5 * before["ratio_to_plain"]


def test_turns_alternate_until_the_time_is_over():
    calls = []

    def turn(name, seconds):
        def take(steps):
            calls.append((name, steps))
            time.sleep(seconds * steps)
            return seconds

        return take

    deadline = time.perf_counter() + 0.28
    rounds = bench_module._alternate(turn("a", 0.002), turn("b", 0.01), (0.002, 0.01), deadline)
    assert calls[:4] == [calls[0], calls[1]] * 2
    assert [name for name, _ in calls[:2]] == ["a", "b"]
    assert calls[0][1] >= 5 * calls[1][1] > 0
    assert 3 <= len(rounds) <= 12
    late = bench_module._alternate(turn("a", 0), turn("b", 0), (1.0, 1.0), time.perf_counter() - 1)
    assert late == [(0, 0)]


def test_random_pictures_have_the_presets_shape_and_labels():
    dataset = random_pictures(small("dcgan-mnist", data__spec=None))
    assert dataset.spec.shape == (1, 28, 28)
    assert dataset.examples.shape[1:] == (1, 28, 28)
    assert dataset.labels.max() == 9
    assert 100 < dataset.examples.float().mean() < 155


def test_data_asked_for_by_name_must_be_there(tmp_path):
    with pytest.raises(DataError):
        bench(small("gan"), str(tmp_path / "nothing"), device="cpu", seconds=0.1)
    found = bench(
        small("gan", data__spec=str(tmp_path / "nothing"), data__size=8), device="cpu", seconds=0.1
    )
    assert found["data"] == "random"
    assert "nothing" in found["note"]
