"""Parts of a game that do not go together, refused before anything is trained or written."""

from __future__ import annotations

from torch import nn

from genctl.errors import ConfigError
from genctl.models.cautions import holds_its_weights
from genctl.types import DataSpec


def refuse_what_does_not_go_together(
    *,
    conditional: bool,
    history: bool,
    replacing_terms: int,
) -> None:
    """What no game can have at once.

    Args:
        conditional: both players are shown labels.
        history: past generated examples are shown too.
        replacing_terms: how many terms take the place of the generator's objective.

    Raises:
        ConfigError: with what to leave out.
    """
    if conditional and history:
        raise ConfigError(
            "model.history",
            ["past examples are kept without their labels, which model.conditional shows"],
            "--set model.history=0",
        )
    if replacing_terms > 1:
        raise ConfigError(
            "model.terms",
            ["more than one of them takes the place of the generator's objective"],
            "set alone: false on all but one",
        )


def refuse_augmented_points(augmented: bool, spec: DataSpec) -> None:
    """Raises: ConfigError: pictures' augmentations are asked of points."""
    if augmented and spec.kind != "image":
        raise ConfigError("model.augment", ["points are no pictures"], "--set model.augment=[]")


def refuse_other_scores(discriminator: nn.Module, wanted: str) -> None:
    """Energies are distances ≥ 0, low on data; logits and values are high on data.

    Raises:
        ConfigError: the objective speaks of the other kind.
    """
    energies = getattr(discriminator, "output", "score") == "energy"
    if energies == (wanted == "energy"):
        return
    if energies:
        raise ConfigError(
            "model.discriminator",
            [f"its score is an energy, and model.objective wants a {wanted}"],
            "an objective of energies: energy-margin or boundary-equilibrium",
        )
    raise ConfigError(
        "model.discriminator",
        ["model.objective wants an energy, such as a reconstruction error; its score has no zero"],
        "--set model.discriminator.kind=autoencoder",
    )


def refuse_a_clip_that_is_divided_out(constrained: bool, discriminator: nn.Module) -> None:
    """Raises: ConfigError: weights are clipped that their own layer divides by their norm."""
    if constrained and holds_its_weights(discriminator):
        raise ConfigError(
            "model.constraint",
            ["the discriminator's layers divide their weights by a norm, so clipping does nothing"],
            "--set model.constraint=null, or --set model.discriminator.norm=none",
        )
