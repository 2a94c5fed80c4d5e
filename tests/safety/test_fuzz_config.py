"""Configurations and data SPECs of any kind: a run config, or an error of the contract."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, contract_errors, damaged, fuzz, spoiled

from genctl.config import presets
from genctl.config.load import flatten, load_config, read_yaml, to_yaml
from genctl.data.dataset import open_dataset
from genctl.data.spec import NAMED, parse_spec

NAMES = sorted(presets.paths())
TEXTS = {name: presets.paths()[name].read_text().encode() for name in NAMES}
NODES = {name: presets.read(name) for name in NAMES}
PATHS = sorted({path for name in NAMES for path in flatten(load_config(name).model_dump())})
TOKENS = (
    b"&a ", b"*a", b"<<: ", b"!!python/object/apply:os.system ", b"? ", b"- ", b": ", b"{", b"[",
    b"\n\t", b"| ", b"'", b'"\\e[31m"', b"%YAML 1.1\n---\n", b"1:30:00", b"2001-99-99", b"0x_",
    b"extends: ../../../etc/passwd\n", b"extends: began\n", b"kind: ", b"null", b".nan", b"1e999",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("presets")


def load(place: Path, content: bytes):
    path = place / "a.yaml"
    path.write_bytes(content)
    with contract_errors():
        config = load_config(str(path))
        again = place / "config.yaml"
        again.write_text(to_yaml(config), encoding="utf-8")
        assert read_yaml(again) == config  # what was accepted can be stored and read again


@fuzz(60)
@given(data=st.data())
def test_spoiled_text(place, data):
    load(place, data.draw(damaged(TEXTS[data.draw(st.sampled_from(NAMES))], TOKENS)))


@fuzz(40)
@given(parts=st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6)), max_size=12))
def test_any_text(place, parts):
    load(place, b"".join(parts))


@fuzz(60)
@given(data=st.data())
def test_spoiled_values(place, data):
    node = data.draw(spoiled(NODES[data.draw(st.sampled_from(NAMES))]))
    load(place, yaml.safe_dump(node, allow_unicode=True).encode("utf-8", "surrogatepass"))


@fuzz(40)
@given(
    name=st.sampled_from(NAMES),
    paths=st.lists(
        st.one_of(st.sampled_from(PATHS), st.text(alphabet="model.data0²٣[]\x1b", max_size=20)),
        min_size=1,
        max_size=3,
    ),
    values=st.lists(
        st.one_of(
            VALUES.map(repr), st.text(max_size=12), st.sampled_from([t.decode() for t in TOKENS])
        ),
        min_size=3,
        max_size=3,
    ),
)
def test_any_override(name, paths, values):
    with contract_errors():
        load_config(name, [f"{path}={value}" for path, value in zip(paths, values, strict=False)])
    with contract_errors():
        load_config(name, dict(zip(paths, values, strict=False)))


SPECS = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "toy:", "toy:ring", "toy:grid?", "digits", "x/", "a|b", "{0..9}.tar", "http://h/"]
                        + [f"{name}:" for name in NAMED]),
        st.text(alphabet="ab./~?&=%\\\x1b\n\0é\ud800\udcff", max_size=10),
        st.sampled_from(["", "std=1e308", "=", "n=nan", "radius=0", "side=-1", "modes=1e9", "std=0"]),
        st.sampled_from(["", "@train", "@test", "@all", "@1", "@", "@train@test"]),
    ),
)  # fmt: skip


@fuzz(80)
@given(text=SPECS)
def test_any_spec(text, tmp_path_factory):
    empty = tmp_path_factory.getbasetemp() / "empty"
    empty.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(empty)
        patch.setenv("HOME", str(empty))
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, _no_network)
        patch.setattr(socket, "getaddrinfo", _no_network)
        with contract_errors():
            source = parse_spec(text)
            leads_out = source.path is not None and not _inside(source.path, empty)
            if not leads_out:  # "/" is a folder like any other, and would be walked
                open_dataset(text, limit=50)


def _inside(path: Path, folder: Path) -> bool:
    return (folder / path).resolve().is_relative_to(folder)


def _no_network(*args, **kwargs):
    pytest.exit("a data SPEC opened the network", returncode=1)
