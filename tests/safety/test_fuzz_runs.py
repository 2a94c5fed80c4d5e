"""Logs and checkpoints with damage of any kind: read, or refused with a word."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import NUMBERS, VALUES, contract_errors, damaged, fuzz, spoiled

from genctl.config.load import read_yaml
from genctl.config.resume import lasting
from genctl.engine import checkpoint
from genctl.engine.run import open_run
from genctl.errors import DataError, UsageError
from genctl.report.chart import render
from genctl.report.curves import plot, read_curves
from genctl.report.diagnosis import diagnose

STORED = Path(__file__).parent.parent / "fixtures" / "run-schema-1"
STEP = STORED / "checkpoints" / "step-00000025"
FILES = ("weights", "averaged", "optimisers")
STATE = json.loads((STEP / "state.json").read_text())
TENSORS = {name: (STEP / f"{name}.safetensors").read_bytes() for name in FILES}
SMALL = {**STATE, "generators": {}}
"""Without 1,249 words of random state, nearly every change would fall on one of those."""

GAN = {
    "step": 100, "images": 6400, "seconds": 3.1, "loss/discriminator": 1.2, "loss/generator": 0.8,
    "grad_norm/discriminator": 0.5, "grad_norm/generator": 0.4, "score/real": 0.6, "score/fake": 0.4,
    "accuracy/discriminator": 0.7, "diversity": 0.9, "lr/generator": 2e-4, "steps/generator": 100,
}  # fmt: skip
OTHERS = [
    "wasserstein", "began/k", "began/m_global", "penalty/gradient", "nonfinite/generator", "loss/model",
    "loss/model/held_out", "nonfinite", "$\\frac", "_hidden", "", "a/\x1b[2J", "x" * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@st.composite
def rows(draw):
    """A plausible log with some keys missing and some values gone mad."""
    keys = draw(st.lists(st.sampled_from([*GAN, *OTHERS]), unique=True, max_size=10))
    mad = draw(st.floats(0, 1)) ** 3
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for i in range(draw(st.integers(0, 40))):
        row = {"step": 10 * i} if draw(st.booleans()) or i % 2 else {}
        for key in keys:
            usual = GAN.get(key, 1.0) * float(rng.normal(1, 0.3))
            row[key] = draw(st.one_of(NUMBERS, VALUES)) if rng.random() < 0.2 * mad else usual
        found.append(row)
    return found


def lines_of(found) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in found).encode("utf-8", "surrogatepass")


def looked_at(path, picture=False):
    with contract_errors():
        curves = read_curves(path)
        diagnosis = diagnose(curves)
        text = json.dumps(diagnosis.as_dict(), allow_nan=False)
        assert "\x1b" not in render([curves], 80) + text
        if picture:
            plot(path.with_suffix(".png"), [curves], [diagnosis.spans])


@fuzz(50)
@given(found=rows())
def test_any_log(place, found):
    path = place / "metrics.jsonl"
    path.write_bytes(lines_of(found))
    looked_at(path)


@fuzz(2)
@given(found=rows())
def test_any_log_can_be_drawn(place, found):
    path = place / "metrics.jsonl"
    path.write_bytes(lines_of(found))
    looked_at(path, picture=True)


@fuzz(60)
@given(data=st.data())
def test_damaged_logs(place, data):
    whole = lines_of([{**GAN, "step": 10 * i} for i in range(12)])
    extra = (b'{"step": 5}\n', b"NaN", b"Infinity", b"[" * 3000, b"1e999", b"null", b"\xff\n", b'"')
    path = place / "metrics.jsonl"
    path.write_bytes(data.draw(damaged(whole, extra)))
    looked_at(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A copy of the stored run whose files may be spoiled."""
    path = tmp_path_factory.mktemp("stored") / "run"
    shutil.copytree(STORED, path, symlinks=True)
    return path


def put(run, state=None, **changed):
    """Restore the run's only checkpoint, but for what is changed; checksums are made right."""
    folder = run / "checkpoints" / STEP.name
    contents = {**TENSORS, **changed}
    for name, content in contents.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    state = dict(STATE if state is None else state)
    if isinstance(state.get("sha256"), dict):
        state["sha256"] = {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()}
    state.pop("checksum", None)
    state["checksum"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def used(run):
    with contract_errors():
        opened = open_run(run, "cpu")
        assert opened.sample(2).shape == (2, 2)


@fuzz(25)
@given(data=st.data())
def test_damaged_checkpoints_are_found(run, data):
    """No checksum is made right here: nothing but the original is ever read."""
    name = data.draw(st.sampled_from(sorted(p.name for p in STEP.iterdir())))
    original = (STEP / name).read_bytes()
    content = data.draw(damaged(original))
    folder = run / "checkpoints" / STEP.name
    shutil.copytree(STEP, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    if name.endswith(".safetensors") and content != original:
        with pytest.raises(DataError, match="damaged"):
            checkpoint.read(folder)
    with contract_errors():
        found = checkpoint.read(folder)
        assert found.step == 25
    used(run)


@fuzz(25)
@given(data=st.data())
def test_tensors_of_malice(run, data):
    """The checksums are right, the safetensors are not."""
    name = data.draw(st.sampled_from(FILES))
    extra = (
        b'"F4"',
        b'"C64"',
        b'"BOOL"',
        b"[0,9223372036854775807,4]",
        b"[18446744073709551615]",
        b"[]",
    )
    put(run, **{name: data.draw(damaged(TENSORS[name], extra))})
    used(run)


def whole(state):
    generators = state.get("generators")
    return {**state, "generators": STATE["generators"]} if generators == {} else state


@fuzz(40)
@given(state=st.one_of(spoiled(SMALL).map(whole), spoiled(STATE)))
def test_states_of_malice(run, state):
    """The checksum is right, the state is not: it is refused before anything is built from it."""
    folder = put(run, state=state)
    with contract_errors():
        found = checkpoint.read(folder)
        random.setstate((3, tuple(found.state["generators"]["python"][1]), None))
        kind, keys, *rest = found.state["generators"]["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        assert isinstance(found.step, int)
        assert all(
            torch.is_tensor(found.optimisers[f"window/{key}"]) for key in found.state["window"]
        )
    used(run)


CONFIG = lasting(read_yaml(STORED / "config.yaml"))


@fuzz(40)
@given(kept=spoiled(CONFIG))
def test_kept_configurations_of_malice(run, kept):
    """It is what the run is held against: a wrong one ends in a word, the right one in samples."""
    put(run, state={**STATE, "config": kept})
    used(run)


def test_the_configuration_of_the_run_itself_is_no_malice(run):
    put(run, state={**STATE, "config": CONFIG})
    assert open_run(run, "cpu").sample(2).shape == (2, 2)


@fuzz(40)
@given(text=st.one_of(st.text(max_size=12), st.integers().map(str), st.from_regex(r"\d{1,30}")))
def test_any_address(run, text):
    put(run)
    with contract_errors():
        place = checkpoint.locate(run / "checkpoints", text)
        assert place.parent.resolve() == (run / "checkpoints").resolve()
    if os.sep not in text and "\0" not in text:
        with contract_errors():
            read_curves(f"{run}@{text}")


def test_an_address_longer_than_a_name_may_be(run):
    with pytest.raises(UsageError, match="neither a step nor a checkpoint"):
        read_curves(f"{run}@{'x' * 300}")
    with pytest.raises(DataError):
        read_curves("x" * 300)
