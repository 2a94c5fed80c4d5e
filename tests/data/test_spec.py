import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genctl.data.dataset import open_dataset
from genctl.data.spec import parse_spec
from genctl.errors import DataError, UsageError


def test_names_roots_and_splits():
    source = parse_spec("mnist:/some/root@test")
    assert (source.kind, str(source.path), source.split) == ("mnist", "/some/root", "test")
    assert parse_spec("digits@all").split == "all"
    assert parse_spec("Fashion-MNIST:x").kind == "fashion-mnist"
    assert parse_spec("toy:ring?radius=2&std=0.02").options == {"radius": 2.0, "std": 0.02}
    assert parse_spec("toy:grid@test").split == "test"


def test_an_existing_path_wins_over_any_other_reading(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "x@test", "mnist:y", "a|b", "me@home"):
        (tmp_path / name).mkdir()
        source = parse_spec(name)
        assert (source.kind, source.path.name, source.split) == ("path", name, None)
    assert parse_spec("me@home@test").split == "test"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "names no data"),
        ("   ", "names no data"),
        ("mnist", "mnist:ROOT"),
        ("mnist:", "mnist:ROOT"),
        ("mnits:root", "mnist"),
        ("http://example.org/x.zip", "no such path"),
        ("a|b", "not read yet"),
        ("shard-{000..010}.tar", "not read yet"),
    ],
)
def test_a_malformed_spec_says_what_was_expected(spec, says):
    with pytest.raises(UsageError) as caught:
        parse_spec(spec)
    assert says in f"{caught.value.reason} {caught.value.remedy}"


def test_a_missing_path_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_dataset(str(tmp_path / "nothing"))


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        source = parse_spec(text)
    except UsageError:
        return
    assert source.text == text
    assert (source.path is None) == (source.kind in ("digits", "toy"))


words = st.text(string.ascii_lowercase, min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(words, st.dictionaries(words, numbers, max_size=5), st.sampled_from(["", "@train", "@test"]))
def test_toy_options_survive_the_round_trip(name, options, suffix):
    query = "&".join(f"{key}={value!r}" for key, value in options.items())
    source = parse_spec(f"toy:{name}{'?' if query else ''}{query}{suffix}")
    assert (source.toy, dict(source.options)) == (name, options)
    assert source.split == (suffix[1:] or None)
