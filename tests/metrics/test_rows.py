"""Features that need not fit into memory: the numbers are the same, and the memory is bounded."""

from __future__ import annotations

import errno
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from genctl.errors import GenctlError
from genctl.metrics import inception_score, kid, prd, rows
from genctl.metrics.features.extractor import collect
from genctl.metrics.frechet import distance, fit
from genctl.metrics.rows import BLOCK, Rows, in_blocks


@pytest.fixture
def filed(tmp_path, monkeypatch):
    """Everything that is collected goes into a file."""
    monkeypatch.setattr(rows, "HELD_BYTES", 0)
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path))


def test_a_file_gives_back_what_was_added_and_leaves_nothing(filed, tmp_path):
    whole = np.random.default_rng(0).standard_normal((2 * BLOCK + 7, 3)).astype(np.float32)
    collected = Rows()
    assert not collected
    for part in np.split(whole, [1, 5, 5, 1500]):
        collected.append(part)
    again = Rows()
    again.extend(collected.whole())
    found = again.whole()
    assert isinstance(found, np.memmap)
    assert (found.dtype, found.flags.writeable) == (np.float32, False)
    assert np.array_equal(found, whole)
    assert np.array_equal(np.concatenate(list(in_blocks(found))), whole)
    chosen = np.random.default_rng(1).permutation(len(whole))[:1100]
    assert np.array_equal(np.concatenate(list(in_blocks(found, chosen))), whole[chosen])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_said(filed, monkeypatch):
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows, "_nameless", Full)
    with pytest.raises(GenctlError, match="No space left") as caught:
        Rows().append(np.zeros((2, 2)))
    assert "GENCTL_CACHE" in caught.value.remedy


class Stub:
    """Features and logits of bytes, without a network."""

    name, standard, classes, warning = "stub", False, True, ""

    def __call__(self, images):
        x = images.flatten(1).float() / 255
        return x, 4 * x


def test_the_measures_of_a_file_are_those_of_whole_matrices(filed):
    """More than one block of rows, against the definitions with everything at once."""
    rng = np.random.default_rng(2)
    sides = []
    for n, scale in ((1500, 255), (2100, 200)):
        images = torch.from_numpy(rng.integers(0, scale, (n, 1, 2, 3)).astype(np.uint8))
        sides.append(collect(Stub(), images.split(64), "x"))
    x, y = (side.values for side in sides)
    log_p = sides[0].log_probabilities
    assert all(isinstance(found, np.memmap) for found in (x, y, log_p))
    assert collect(Stub(), images.split(64), "x", classes=False).log_probabilities is None

    a, b = (np.array(side, dtype=np.float64) for side in (x, y))
    k = [(m @ n.T / 6 + 1) ** 3 for m, n in ((a, a), (b, b), (a, b))]
    within = [(g.sum() - np.trace(g)) / (len(g) * (len(g) - 1)) for g in k[:2]]
    assert kid.mmd2(x, y) == pytest.approx(sum(within) - 2 * k[2].mean(), rel=1e-9)
    subset = kid.subset_values(x, y, subsets=1, size=1200)[0]
    drawn = np.random.RandomState(kid.SUBSET_SEED)
    parts = [side[drawn.choice(len(side), 1200, replace=False)] for side in (a, b)]
    assert subset == pytest.approx(kid.mmd2(*parts), rel=1e-9)

    p = np.exp(np.array(log_p))
    order = np.random.RandomState(inception_score.SHUFFLE_SEED).permutation(len(p))
    expected = []
    for part in (p[order[:750]], p[order[750:]]):
        divergence = (part * np.log(part / part.mean(axis=0))).sum(axis=1)
        expected.append(np.exp(divergence.mean()))
    assert inception_score.scores(log_p, 2) == pytest.approx(expected, rel=1e-12)

    fitted = fit(x)
    assert np.allclose(fitted.full(), np.cov(a, rowvar=False), rtol=1e-12)
    assert distance(fitted, fit(a)) == 0.0
    assert distance(fit(x[::-1]), fitted) <= 1e-12 * fitted.trace


def test_clusters_come_out_of_a_file_as_out_of_memory(filed, monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((60, 3)) + 1
    which = np.arange(40), np.arange(40) + 20
    monkeypatch.setattr(prd, "CLUSTERINGS", 1)
    by_file = prd.of_features(x, y, 0, which)
    monkeypatch.setattr(rows, "HELD_BYTES", 2**30)
    assert np.array_equal(by_file, prd.of_features(x, y[20:]))


def test_the_kernel_of_one_subset_is_never_whole():
    """3,000 × 3,000 kernel values are 72 MB; tiles of 8 MB are held."""
    rng = np.random.default_rng(4)
    x, y = (rng.standard_normal((3000, 4)).astype(np.float32) for _ in range(2))
    tracemalloc.start()
    kid.subset_values(x, y, subsets=2, size=3000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20


GROWTH = """
import sys
from pathlib import Path

import numpy as np
import torch

from genctl.report import extractors
from genctl.report.evaluate import evaluate

WIDTH = 256
mix = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(0))

class Stub:
    name, standard, classes, warning = "stub", False, True, ""
    protocol = {"extractor_hash": "stub"}

    def __call__(self, images):
        x = images.flatten(1).float() / 255 @ mix
        return x, x

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10

extractors.choose = lambda *given, **more: Stub()
torch.set_num_threads(1)
found = []
for n in (2_000, 20_000):
    rng = np.random.default_rng(n)
    for name in ("a", "b"):
        np.savez(f"{sys.argv[1]}/{name}{n}.npz", images=rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8))
    a, b = (f"{sys.argv[1]}/{name}{n}.npz" for name in ("a", "b"))
    result = evaluate(a, b, ["fid", "is", "kid"], n=n, kid_subsets=2, batch_size=500, device="cpu")
    assert result["n_generated"] == result["n_real"] == n
    assert all("reason" not in entry for entry in result["metrics"].values()), result["metrics"]
    found.append(peak())
print(*found)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_ten_times_the_examples_take_no_more_memory(tmp_path, monkeypatch):
    """20,000 × 256 features are 20 MiB a side, and their class probabilities 40 MiB more.

    Of the whole command, the pages of mapped files included: 18,000 more may cost 40 MiB.
    """
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path / "cache"))
    words = [sys.executable, "-c", GROWTH, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    few, many = map(float, done.stdout.split())
    assert many - few < 40, (few, many)
