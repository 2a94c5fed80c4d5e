"""What the log says of examples that are not trained on: the step's own loss, on another batch.

Where a discriminator learns its few images by heart, its score of held-out ones falls to that of
generated ones (Karras et al. 2020, arXiv:2006.06676, section 3.1); where a likelihood model does,
its loss on them turns and climbs. Both need the numbers at every row, and cost one loss a row.
"""

from __future__ import annotations

from torch import Tensor

from genctl.config.schema import RunConfig
from genctl.data.dataset import Dataset, open_dataset
from genctl.engine.generators import undisturbed
from genctl.engine.log import HELD_OUT
from genctl.engine.update import Updater
from genctl.types import Batch


def open_held_out(config: RunConfig, spec: str | None, dataset: Dataset) -> Dataset | None:
    """The part of a SPEC that is not trained on; None where it has none, or nobody asked."""
    spec, data = spec or config.data.spec, config.data
    apart = dataset.split == "train" and dataset.toy is None and dataset.counts.get("test", 0) > 0
    if spec is None or not apart or not config.log.held_out:
        return None
    return open_dataset(
        spec,
        split="test",
        size=data.size,
        crop=data.crop,
        holdout=data.holdout,
        binarise=data.binarise,
        without=data.without,
    )


def held_out_metrics(update: Updater, batch: Batch) -> dict[str, Tensor]:
    """``loss/<player>/held_out``, and ``score/held_out`` where there is a ``score/real``.

    Args:
        update: in a step that logs, whose first loss of a batch is taken again.
        batch: examples that are not trained on.

    Returns:
        Scalars; nothing where the step took no loss of a batch. The model and the noise of the
        steps to come are as they were.
    """
    if update.first_loss is None:
        return {}
    player, loss_fn = update.first_loss
    before = {name: buffer.clone() for name, buffer in update.model.named_buffers()}
    with undisturbed(update.device):
        loss, metrics = update.loss_of(player, loss_fn, batch)
    for name, value in before.items():  # running means, power iterations, pools of past fakes
        update.model.get_buffer(name).copy_(value)
    found = {f"loss/{player}{HELD_OUT}": loss.detach()}
    if "score/real" in metrics:
        found[f"score{HELD_OUT}"] = metrics["score/real"].detach()
    return found
