"""``torch.compile``, network by network; the step itself stays plain Python."""

from __future__ import annotations

import torch

from genctl.contracts import GenerativeModel


def compile_networks(model: GenerativeModel, backend: str = "inductor") -> list[str]:
    """Compile every network that a player trains, in place, keeping its parameter names.

    Shapes are fixed (``dynamic=False``): a discriminator is called with and without gradients,
    which would otherwise be taken for a change of shape. Code that cannot be compiled runs as
    it is.

    Returns:
        The names of the compiled sub-modules.
    """
    torch._dynamo.config.suppress_errors = True
    names = list(dict.fromkeys(name for modules in model.players.values() for name in modules))
    for name in names:
        model.get_submodule(name).compile(backend=backend, dynamic=False)
    return names
