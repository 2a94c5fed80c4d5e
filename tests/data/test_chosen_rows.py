"""Rows chosen from a map answer as a copy of them would."""

import itertools
import pickle
from dataclasses import replace

import pytest
import torch

from genctl.data import build, cache
from genctl.data.chosen_rows import ChosenRows
from genctl.data.dataset import open_dataset
from genctl.data.loader import Loader, evaluation_batches

STORED = torch.arange(50 * 3 * 4 * 5, dtype=torch.int64).reshape(50, 3, 4, 5) % 251
ROWS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8])
MASK = torch.arange(11) % 3 == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x[2],
        lambda x: x[-1],
        lambda x: x[1:7:2],
        lambda x: x[-3:],
        lambda x: x[[1, 2]],
        lambda x: x[torch.tensor([0, -1])],
        lambda x: x[MASK],
        lambda x: x[torch.tensor([1, 2]), torch.tensor([0, 1])],
        lambda x: x[:2, :, 1:3, 1:3],
        lambda x: x[:, 1],
        lambda x: x[..., 1],
        lambda x: x[x > 200],
        lambda x: x.index_select(0, torch.tensor([4, 4])),
        lambda x: x.index_select(1, torch.tensor([2])),
        lambda x: torch.index_select(x, 0, torch.tensor([4, 1]), out=torch.empty(2, 3, 4, 5).long()),
        lambda x: torch.cat([x, x]),
        lambda x: x.float().mean((0, 2)),
        lambda x: torch.from_numpy(x.numpy()),
        lambda x: torch.stack(list(x)),
    ],
)  # fmt: skip
def test_every_question_is_answered_by_a_plain_tensor(ask):
    answer = ask(ChosenRows(STORED, ROWS))
    assert type(answer) is torch.Tensor
    assert torch.equal(answer, ask(STORED[ROWS]))


def test_what_is_asked_for_is_read_and_no_more(monkeypatch):
    chosen, copied = ChosenRows(STORED, ROWS), STORED[ROWS]
    for facts in ("shape", "dtype", "device", "nbytes", "ndim"):
        assert getattr(chosen, facts) == getattr(copied, facts)
    monkeypatch.setattr(ChosenRows, "gathered", lambda self: pytest.fail("all of it was read"))
    for ask in (0, slice(2, 5), [1, 2], MASK):
        chosen[ask]
    assert chosen.to("cpu") is chosen
    assert "11 of (50" in repr(chosen)
    assert torch.equal(pickle.loads(pickle.dumps(chosen))[3], copied[3])
    with pytest.raises(TypeError, match="cannot be written to"):
        chosen.zero_()


def test_they_move_to_another_device_in_blocks(device, monkeypatch):
    monkeypatch.setattr("genctl.data.chosen_rows._BLOCK_BYTES", 3 * STORED[0].nbytes)
    moved = ChosenRows(STORED, ROWS).to(device)
    assert moved.device.type == device
    assert torch.equal(moved.cpu(), STORED[ROWS])
    assert ChosenRows(STORED, ROWS).to("meta").shape == (11, 3, 4, 5)


@pytest.fixture
def both(tmp_path, paint, monkeypatch):
    """A set without one of its labels: as an index into the cache's map, and copied to memory."""
    monkeypatch.setattr(build, "CACHE_FROM_FILES", 1)
    for k, name in enumerate("abc"):
        paint(tmp_path / "set" / name, 20, grey=True, seed=k, size=(10, 10))

    def opened(spec="{}", **how):
        found = []
        for gib in ("0", "1"):  # what is in the cache is taken from there, whatever its bound
            cache.clear_cache()
            monkeypatch.setenv("GENCTL_CACHE_GIB", gib)
            text = spec.format(tmp_path / "set")
            found.append(open_dataset(text, **{"without": [1], "split": "all", **how}))
        copied, mapped = found
        assert type(copied.examples) is torch.Tensor
        return mapped, copied

    return opened


@pytest.mark.parametrize("how", [{}, {"size": 8, "crop": "random"}, {"binarise": "dynamic"}])
@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_left_out_labels_leave_an_index_beside_the_map(both, how, split, device):
    mapped, copied = both(**how, split=split, holdout=0.4)
    assert isinstance(mapped.examples, ChosenRows)
    assert len(mapped.examples.stored) == 60
    assert torch.equal(mapped.examples, copied.examples)
    assert (mapped.fingerprint, mapped.names) == (copied.fingerprint, copied.names)
    loaders = [
        Loader(dataset, batch_size=16, seed=3, flip=True, device=device)
        for dataset in (mapped, copied)
    ]
    for a, b in itertools.islice(zip(*loaders, strict=True), 6):
        assert type(a.x) is torch.Tensor
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
    for a, b in zip(*(evaluation_batches(d, 7, device) for d in (mapped, copied)), strict=True):
        assert torch.equal(a.x, b.x)


def test_what_is_made_of_such_a_set_is_the_same(both):
    for how in ({"binarise": "fixed"}, {"limit": 7}):
        mapped, copied = both(**how)
        assert torch.equal(mapped.examples, copied.examples)
    mapped, copied = both("stacked:{}", limit=50)
    assert torch.equal(mapped.examples, copied.examples)
    mapped, copied = both()
    half = replace(mapped, examples=mapped.examples[torch.arange(5)])
    assert torch.equal(half.images(torch.arange(5)), copied.examples[:5])
