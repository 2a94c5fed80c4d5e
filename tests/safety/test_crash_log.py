"""A torn last line of ``metrics.jsonl``, and two processes on one run directory."""

from __future__ import annotations

import json
import os

import pytest
from campaign import assert_equal_runs, configuration, newest

from genctl.config.load import to_yaml, with_overrides
from genctl.engine import checkpoint
from genctl.engine.fit import fit
from genctl.engine.log import MetricsFile
from genctl.errors import DataError
from genctl.report.curves import read_curves

ROWS = [{"step": step, "images": 8 * step, "seconds": 0.5, "loss/vae": 1 / step} for step in (1, 2)]
TAILS = {"nothing": b"", "zeros": bytes(300), "half a character": b"\xe2\x82"}
"""What a power cut may leave after the torn line, besides nothing."""


@pytest.mark.parametrize("tail", TAILS)
def test_a_row_torn_at_any_byte_is_no_row(tmp_path, tail):
    """The reader of curves, the newest row, and the cut of a resume agree on it."""
    whole = [json.dumps(row).encode() for row in ROWS]
    log = MetricsFile(tmp_path / "metrics.jsonl")
    for at in range(len(whole[1]) + 2):
        torn = (whole[1] + b"\n")[:at]
        complete = at >= len(whole[1]) and not (TAILS[tail] and at == len(whole[1]))
        log.path.write_bytes(whole[0] + b"\n" + torn + TAILS[tail])
        assert log.last() == ROWS[complete], at
        assert list(read_curves(log.path).step) == [1, 2][: 1 + complete], at
        log.cut(2)
        kept = [row + b"\n" for row in whole[: 1 + complete]]
        assert log.path.read_bytes() == b"".join(kept), at
        log.append({"step": 3})
        assert log.last() == {"step": 3}


def test_the_very_first_row_torn(tmp_path):
    log = MetricsFile(tmp_path / "metrics.jsonl")
    first = json.dumps(ROWS[0]).encode()
    for at in range(len(first)):
        log.path.write_bytes(first[:at])
        assert log.last() == {}
        if at:
            with pytest.raises(DataError):
                read_curves(log.path)
        log.cut(5)
        assert log.path.read_bytes() == b""


@pytest.mark.parametrize("line", [b"\n", b"x\n", b"{}\n", bytes(2**21)])
def test_what_is_no_log_is_refused_at_once(tmp_path, line):
    log = MetricsFile(tmp_path / "metrics.jsonl")
    log.path.write_bytes(line * (2**24 // len(line)))
    for read in (log.last, lambda: log.cut(3), lambda: log.scores("evaluate/fd")):
        with pytest.raises(DataError, match="not the log of a run"):
            read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    fit(configuration("latent variable", 9), None, folder / "run", device="cpu")
    return folder / "run"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_going_on_with_a_torn_log_equals_never_having_stopped(whole, tmp_path, share):
    fit(configuration("latent variable", 6), None, tmp_path / "run", device="cpu")
    log = tmp_path / "run/metrics.jsonl"
    row = log.read_bytes().splitlines()[-1].replace(b'"step": 6', b'"step": 8')
    with log.open("ab") as file:
        file.write(row[: int(share * len(row))])
    fit(configuration("latent variable", 9), None, tmp_path / "run", device="cpu", resume="latest")
    assert_equal_runs(whole, tmp_path / "run")


def test_the_rows_are_on_the_disk_before_the_checkpoint(tmp_path, monkeypatch):
    """Else a power cut could leave a checkpoint whose log ends before it."""
    config = with_overrides(configuration("latent variable", 3), {"train.checkpoint_every": 1})
    config = with_overrides(config, {"log.every": 1})
    order, synced, written = [], os.fsync, checkpoint.write

    def fsync(descriptor):
        order.append(os.fstat(descriptor).st_ino)
        synced(descriptor)

    def write(*arguments):
        order.append("checkpoint")
        return written(*arguments)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(checkpoint, "write", write)
    fit(config, None, tmp_path / "run", device="cpu")
    places = [i for i, what in enumerate(order) if what == "checkpoint"]
    assert len(places) == 4
    log, run = ((tmp_path / name).stat().st_ino for name in ("run/metrics.jsonl", "run"))
    assert [order[i - 2 : i] for i in places[1:]] == [[log, run]] * 3  # the rows, then their name


# --- two processes ------------------------------------------------------------------------------
@pytest.fixture
def words(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(to_yaml(configuration("latent variable", 9)))
    return ["train", "--preset", file, "--device", "cpu", "--quiet", "--out", tmp_path / "run"]


def test_the_second_process_is_refused_and_a_dead_owner_never_blocks(
    server, words, whole, tmp_path
):
    run = tmp_path / "run"
    owner = server.start(*words, prelude=["stall", "step", 100.0]).stalled()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for attempt in (
        ["train", "--resume", run, "--quiet"],
        ["train", "--resume", f"{run}@0", "--quiet", "--steps", 20],
        [*words, "--resume-or-start"],
        words,
    ):
        code, _, err = server.run(*attempt)
        assert code == 2, err
        assert 1 <= len(err.splitlines()) <= 3
        assert str(run) in err
        assert "already here" in err if attempt is words else "another process" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    code, _, err = server.run(
        "sample", run, "-n", 2, "--device", "cpu", "--out", tmp_path / "x.npz"
    )
    assert code == 0, f"looking at it is allowed: {err}"
    owner.kill()
    assert owner.wait() == -9
    assert server.run(*words, "--resume-or-start")[0] == 0
    assert_equal_runs(whole, run)


def test_of_four_starts_at_once_one_trains(server, words, whole, tmp_path):
    children = [server.start(*words) for _ in range(4)]
    codes = sorted(child.wait() for child in children)
    assert codes == [0, 2, 2, 2], [child.err for child in children]
    assert_equal_runs(whole, tmp_path / "run")
    assert newest(tmp_path / "run") == 9
