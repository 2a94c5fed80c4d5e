"""What to try next: the ``--set`` of each finding, with the run's own numbers if there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genctl.report.curves import Curves
from genctl.report.game import Game
from genctl.report.key_names import says_anything

USUAL_RATE = 2e-4
"""Adam's rate in most GAN papers; only for logs that do not say theirs."""


class Remedies:
    """Builds remedies for one run.

    Args:
        curves: the log, whose ``lr/<player>`` says the present rates.
        game: how the log is read, with the run's configuration.
    """

    def __init__(self, curves: Curves, game: Game) -> None:
        self.curves, self.game = curves, game
        model = game.config.get("model")
        self.model: Mapping[str, Any] = model if isinstance(model, Mapping) else {}
        self.players = [key.removeprefix("loss/") for key in curves.starting("loss/")]

    def too_short(self) -> str:
        """Train on, or log more often; or log something that can be read."""
        if len(self.curves) and not says_anything(self.curves):
            return (
                "log what can be read: a loss as loss/PLAYER, and of a game score/real, score/fake "
                "and diversity too, as every run of genctl does"
            )
        every = self._number("log", "every", 100)
        return f"train on, or log more often: --set log.every={max(1, every // 10)}"

    def too_strong(self) -> str:
        """Slow the discriminator down or blur its targets."""
        text = f"slow the discriminator: {self._rate('discriminator', 0.25)}"
        objective = self.model.get("objective")
        if isinstance(objective, Mapping) and objective.get("real_target") == 1:
            kind = objective.get("kind")
            text += (
                f"; or smooth its labels: --set model.objective.kind={kind} "
                "--set model.objective.real_target=0.9"
            )
        return text

    def too_weak(self) -> str:
        """Give the discriminator more updates, or slow the generator."""
        text = f"slow the generator: {self._rate('generator', 0.5)}"
        play = self.model.get("play")
        if isinstance(play, Mapping) and play.get("kind") == "fixed":
            count = play.get("discriminator")
            more = count + 1 if isinstance(count, int) else 2
            text += (
                "; or give the discriminator more updates: --set model.play.kind=fixed "
                f"--set model.play.discriminator={more}"
            )
        return text

    def mode_collapse(self) -> str:
        """Slow the generator, show the discriminator more at once, remember past fakes."""
        batch = 2 * self._number("train", "batch_size", 64)
        text = (
            f"slow the generator: {self._rate('generator', 0.5)}; or let the discriminator see "
            f"more at once: --set train.batch_size={batch}"
        )
        if self.model.get("history") == 0:
            text += f"; or show it past fakes too: --set model.history={batch * 8}"
        return text

    def oscillation(self) -> str:
        """Smaller steps for everybody, or averaged weights."""
        rates = " ".join(self._rate(player, 0.5) for player in self.players)
        text = f"take smaller steps: {rates or '--set train.clip=1.0'}"
        ema = self.game.config.get("ema")
        if not (isinstance(ema, Mapping) and ema.get("half_life_images")):
            text += "; or sample from averaged weights: --set ema.half_life_images=10000"
        return text

    def divergence(self) -> str:
        """Smaller steps, clipped gradients, full precision."""
        rates = " ".join(self._rate(player, 0.3) for player in self.players)
        return (f"{rates} " if rates else "") + "--set train.clip=1.0 --set train.precision=fp32"

    def stalled(self) -> str:
        """Another start and larger steps."""
        rates = " ".join(self._rate(player, 3.0) for player in self.players)
        seed = self._number("train", "seed", 0) + 1
        return f"start again elsewhere: --set train.seed={seed} {rates}".rstrip()

    def memorising(self) -> str:
        """More data, in fact or by mirroring, or fewer steps."""
        steps = max(1, int(self.curves.step[-1]) // 2) if len(self.curves) else 1000
        return f"more data, or --set data.flip=true, or stop earlier: --set train.steps={steps}"

    def _rate(self, player: str, factor: float) -> str:
        return f"--set optim.{player}.lr={self._current_rate(player) * factor:.2g}"

    def _current_rate(self, player: str) -> float:
        optim = self.game.config.get("optim")
        setting = optim.get(player) if isinstance(optim, Mapping) else None
        rate = setting.get("lr") if isinstance(setting, Mapping) else None
        if isinstance(rate, int | float) and rate > 0:
            return float(rate)
        logged = self.curves.get(f"lr/{player}")
        if logged is not None:
            seen = [float(value) for value in logged if value > 0]
            if seen:
                return seen[0]  # before any schedule lowered it
        return USUAL_RATE

    def _number(self, section: str, key: str, otherwise: int) -> int:
        node = self.game.config.get(section)
        value = node.get(key) if isinstance(node, Mapping) else None
        return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
