"""The benchmark's two sides compute the same numbers, and its command runs."""

from __future__ import annotations

import itertools
import json
from contextlib import nullcontext

import by_hand
import peers
import pytest
import torch
import training
from training import Size, engine

from genctl.networks.layers.gemm_convolution import Geometry
from genctl.randomness import RandomStream


class SameNoise(peers.FreshGANLoop):
    """A plain loop on the engine's noise."""

    stream: RandomStream

    def noise(self, n):
        return peers._shaped(self.stream.normal(n, self.latent), self.g)


WORKLOADS = {workload.name: workload for workload in training.WORKLOADS}
SIZES = {"dcgan": Size(16, 3, 16, 8, 8, 64), "mlp-gan": Size(8, 1, 16, 16, 8, 64)}


@pytest.mark.parametrize(
    ("name", "products"), [("dcgan", None), ("dcgan", True), ("mlp-gan", None)]
)
def test_losses_are_those_of_the_plain_loop(name, products, monkeypatch):
    """20 steps in float32 from the same weights, on the same pictures and the same noise."""
    if products is not None:
        monkeypatch.setattr(Geometry, "by_product", lambda *_: products)
    workload, size = WORKLOADS[name], SIZES[name]
    pictures = size.pictures()
    ours, again = (engine(workload, size, pictures, "fp32") for _ in range(2))
    drawn = workload.loop(size, pictures, peers)
    plain = SameNoise(drawn.g, drawn.d, size.latent, (batch.x for batch in again.loader))
    for net, source in ((plain.g, again.model.generator), (plain.d, again.model.discriminator)):
        weights = source.state_dict().values()
        net.load_state_dict(dict(zip(net.state_dict(), weights, strict=True)))
    for step in range(1, 21):
        ours.update.begin_step(step, False)
        ours.model.training_step(ours.loader, ours.update)
        plain.stream = RandomStream(ours.config.train.seed, "training", step)
        expected = plain.step()
        found = ours.update.window.read()
        ours.update.window.clear()
        for player, loss in expected.items():
            assert found[f"loss/{player}"] == pytest.approx(loss, rel=1e-3), (step, player)
    before, after = drawn.d.state_dict(), ours.model.discriminator.state_dict()
    assert all(
        torch.allclose(a, b, atol=1e-3)
        for a, b in zip(before.values(), after.values(), strict=True)
    )


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "mlp-gan", "vae"])
def test_the_loop_by_hand_makes_the_same_steps(name, monkeypatch):
    """In float32: what it leaves out changes no number."""
    monkeypatch.setattr(by_hand, "_in_bfloat16", nullcontext)
    workload = WORKLOADS[name]
    size = SIZES.get(name, Size(8, 1, 4, 8, 4, 16))
    trained = []
    for way in (peers, by_hand):
        torch.manual_seed(0)
        loop = workload.loop(size, size.pictures(), way)
        loop.data = itertools.repeat(torch.rand(size.batch, size.channels, size.edge, size.edge))
        torch.manual_seed(1)
        for _ in range(2):
            loop.step()
        nets = [loop.network] if name == "vae" else [loop.g, loop.d]
        trained.append([p.detach() for net in nets for p in net.parameters()])
    for plain, ours in zip(*trained, strict=True):
        torch.testing.assert_close(ours, plain, atol=2e-5, rtol=2e-3)


def test_the_command_runs_and_writes_its_record(tmp_path, capsys):
    path = tmp_path / "record.json"
    training.main(["--smoke", "--json", str(path)])
    record = json.loads(path.read_text())
    rows = {(row["workload"], row["variant"]): row for row in record["rows"]}
    assert set(rows) == {
        (name, v) for name in WORKLOADS for v in ("peer", "by hand", "fp32", "bf16")
    }
    for row in rows.values():
        assert row["ms"] > 0
        assert row["ratio"] == pytest.approx(
            rows[row["workload"], "peer"]["ms"] / row["ms"], rel=1e-9
        )
    assert {row["dtype"] for row in record["layers"]} == {"float32", "bfloat16"}
    printed = capsys.readouterr().out
    assert all(workload in printed for workload in WORKLOADS)


def test_work_is_counted_alike_on_both_sides():
    """Every layer costs as much forward as for either of its gradients."""
    size = SIZES["dcgan"]
    pictures = size.pictures()
    peer = WORKLOADS["dcgan"].loop(size, pictures, peers)
    ours = engine(WORKLOADS["dcgan"], size, pictures, "fp32")
    totals = []
    for run in (peer.step, lambda: training.train(ours, 1)):
        with training.native_kernels(), training.Flops() as counter:
            run()
        totals.append(counter.total)
    images, latents = torch.randn(16, 3, 16, 16), torch.randn(16, 8, 1, 1)
    d, g = _forward(peer.d, images), _forward(peer.g, latents)
    d_first, g_first = _forward(peer.d[0], images), _forward(peer.g[0], latents)
    # D: three passes with both gradients, without that of an image twice; G: one, not of latents.
    assert totals[0] == 9 * d - 2 * d_first + 3 * g - g_first
    # Ours draws another fake for G, and no weight gradient of D on it.
    assert totals[1] == totals[0] + g - d


def _forward(net, x):
    with torch.no_grad(), training.Flops() as counter:
        net(x)
    return counter.total
