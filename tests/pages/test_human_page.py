"""``evaluate --human`` and ``--human-results``: the page's pictures, its key, and the numbers."""

from __future__ import annotations

import base64
import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image
from whole_runs import INJECTION, Page

from genctl.cli.main import main
from genctl.report.human import masked


def pictures(path, n, *, shade, size=(12, 16), channels=3, seed=0):
    """An npz whose pictures are around one brightness: half of them flat, half of them noise."""
    draws = np.random.default_rng(seed)
    images = np.full((n, *size, channels), shade, dtype=np.uint8)
    images[::2] += draws.integers(0, 40, images[::2].shape, dtype=np.uint8)
    np.savez(path, images=images)
    return path


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    return (
        pictures(folder / "dark.npz", 30, shade=20),
        pictures(folder / "light.npz", 40, shade=200, size=(24, 32), seed=1),
    )


def page_of(sides, out, capsys, *words) -> tuple[dict, Page]:
    capsys.readouterr()
    code = main(["evaluate", "--human", *map(str, sides), "--out", str(out), "--json", *words])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out), Page(out.read_text())


def shown(page: Page) -> list[bytes]:
    return [base64.b64decode(uri.partition(",")[2]) for uri in json.loads(page.texts["script"][1])]


def truths(page: Page) -> list[bool]:
    """What the key says: real or not. The mask turned over twice is no mask."""
    facts, key = json.loads(page.texts["script"][0]), json.loads(page.texts["script"][2])
    return [digit == "1" for digit in masked([digit == "1" for digit in key], facts["page"])]


def light(data: bytes) -> bool:
    return float(np.asarray(Image.open(io.BytesIO(data))).mean()) > 128


def test_half_are_real_and_the_key_knows_which(sides, tmp_path, capsys) -> None:
    result, page = page_of(sides, tmp_path / "page.html", capsys, "-n", "40", "--seconds", "0.5")
    assert (result["n"], result["shown_seconds"], result["seed"]) == (40, 0.5, 0)
    found = [light(data) for data in shown(page)]
    assert sum(found) == 20
    assert truths(page) == found
    assert 3 < sum(a != b for a, b in itertools.pairwise(found)) < 36  # mixed
    plain = "".join(str(int(real)) for real in found)
    text = (tmp_path / "page.html").read_text()
    assert plain not in text
    assert plain.translate(str.maketrans("01", "10")) not in text
    assert len({bytes(data) for data in shown(page)}) > 20


def test_nothing_but_the_picture_tells_them_apart(sides, tmp_path, capsys) -> None:
    _, page = page_of(sides, tmp_path / "page.html", capsys, "-n", "40")
    files = shown(page)
    assert len({len(data) for data in files}) == 1  # flat or noise, resized or not
    heads = {data[:33] for data in files}  # signature and IHDR
    assert len(heads) == 1
    opened = [Image.open(io.BytesIO(data)) for data in files]
    assert {(image.size, image.mode) for image in opened} == {((16, 12), "RGB")}
    assert not any(image.info for image in opened)
    (picture,) = page.all("img")
    assert picture["alt"] == ""


def test_the_same_seed_gives_the_same_page_and_another_another_order(
    sides, tmp_path, capsys
) -> None:
    one = page_of(sides, tmp_path / "1.html", capsys, "-n", "20")[1]
    page_of(sides, tmp_path / "2.html", capsys, "-n", "20")
    three = page_of(sides, tmp_path / "3.html", capsys, "-n", "20", "--seed", "1")[1]
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()
    assert truths(one) != truths(three)


def test_grey_and_colour_become_alike(tmp_path, capsys) -> None:
    colour = pictures(tmp_path / "colour.npz", 6, shade=90)
    grey = pictures(tmp_path / "grey.npz", 6, shade=200, channels=1, size=(300, 400))
    _, page = page_of((colour, grey), tmp_path / "page.html", capsys, "-n", "12")
    assert {(i.size, i.mode) for i in map(Image.open, map(io.BytesIO, shown(page)))} == {
        ((16, 12), "L")
    }
    large = pictures(tmp_path / "large.npz", 6, shade=90, channels=1, size=(300, 400))
    result, _ = page_of((large, grey), tmp_path / "large.html", capsys, "-n", "4")
    assert "128x96" in result["protocol"]["format"]


def test_a_size_is_that_of_the_pictures_read(sides, tmp_path, capsys) -> None:
    result, page = page_of(sides, tmp_path / "page.html", capsys, "-n", "4", "--size", "8")
    assert {i.size for i in map(Image.open, map(io.BytesIO, shown(page)))} == {(8, 8)}
    assert "8x8" in result["protocol"]["format"]


def test_a_run_is_sampled(tmp_path, capsys) -> None:
    run = tmp_path / "run"
    words = ["--preset", "gan", "--data", "digits", "--steps", "1", "--out", str(run)]
    assert (
        main(["train", *words, "--set", "log.preview_every=0", "--device", "cpu", "--quiet"]) == 0
    )
    result, page = page_of((run, "digits"), tmp_path / "page.html", capsys, "-n", "8")
    assert result["protocol"]["generated"]["kind"] == "run"
    assert len(truths(page)) == 8
    assert sum(truths(page)) == 4
    sized = ["--human", str(run), "digits", "--out", str(tmp_path / "no.html"), "--size", "16"]
    assert main(["evaluate", *sized]) == 2
    assert "is a run of (1, 8, 8)" in capsys.readouterr().err
    main(["sample", str(run), "-n", "4", "--out", str(tmp_path / "x.npz")])
    samples = {image.tobytes() for image in np.load(tmp_path / "x.npz")["images"]}
    mine = [np.asarray(Image.open(io.BytesIO(data))).tobytes() for data in shown(page)]
    assert {m for m, real in zip(mine, truths(page), strict=True) if not real} == samples


def test_names_are_text_on_the_page(sides, tmp_path, capsys) -> None:
    odd = tmp_path / "<script>&.npz"
    odd.write_bytes(sides[0].read_bytes())
    _, page = page_of((odd, sides[1]), tmp_path / "page.html", capsys, "-n", "4")
    assert json.loads(page.texts["script"][0])["generated"] == str(odd)
    assert len(page.all("script")) == 4
    assert str(odd) in "".join(page.texts["details"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--human", "DARK", "LIGHT"], 2, "--out page.html"),
        (["--human", "DARK", "--out", "OUT"], 2, "must be real"),
        (["--human", "DARK", "LIGHT", "LIGHT", "--out", "OUT"], 2, "one thing too many"),
        (["--human", "DARK", "LIGHT", "--out", "OUT", "-n", "7"], 2, "even number"),
        (["--human", "DARK", "LIGHT", "--out", "OUT", "-n", "62"], 4, "30 pictures, 31 needed"),
        (["--human", "DARK", "LIGHT", "--out", "OUT", "--seconds", "0"], 2, "more than 0"),
        (["--human", "DARK", "LIGHT", "--out", "OUT", "--fid"], 2, "--human"),
        (["--human", "DARK", "toy:ring", "--out", "OUT"], 2, "points, not pictures"),
        (["--human", "--human-results", "DARK"], 2, "one of them"),
        (["DARK", "LIGHT", "--seconds", "1"], 2, "--human"),
        (["--human", "DARK", "LIGHT", "--out", "DARK"], 2, "not a page of genctl's"),
    ],
)
def test_mistakes_are_told(words, code, said, sides, tmp_path, capsys) -> None:
    places = {"DARK": sides[0], "LIGHT": sides[1], "OUT": tmp_path / "page.html"}
    assert main(["evaluate", *[str(places.get(word, word)) for word in words], "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert said in f"{error['reason']} {error['remedy']}"
    assert not (tmp_path / "page.html").exists()


# --- answers -------------------------------------------------------------------------------------
def sitting(called_real: int, generated: int, right_of_real: int, real: int, **changes) -> dict:
    """Answers with these counts."""
    answers = [("generated", "real" if i < called_real else "generated") for i in range(generated)]
    answers += [("real", "real" if i < right_of_real else "generated") for i in range(real)]
    return {
        "format": "genctl-human-answers-1",
        "page": "0123456789abcdef",
        "sitting": f"{called_real:08x}{real:08x}",
        "generated": "a run",
        "real": "digits",
        "n": generated + real,
        "shown_seconds": None,
        "seed": 0,
        "answers": [
            {"trial": i + 1, "truth": truth, "answer": answer, "seconds": 0.5}
            for i, (truth, answer) in enumerate(answers)
        ],
    } | changes


def saved(folder, name, node) -> str:
    path = folder / name
    path.write_text(node if isinstance(node, str) else json.dumps(node))
    return str(path)


def results(capsys, *words, code=0) -> dict:
    capsys.readouterr()
    assert main(["evaluate", "--human-results", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def wilson(count: int, n: int) -> list[float]:
    """Wilson (1927), the closed form."""
    z, p = 1.959963984540054, count / n
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return [(p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]


def test_the_fooling_rate_and_its_interval(tmp_path, capsys) -> None:
    result = results(capsys, saved(tmp_path, "a.json", sitting(7, 10, 6, 10)))
    human = result["metrics"]["human"]
    assert (human["value"], human["accuracy"]) == (0.7, 0.45)
    assert human["interval"] == pytest.approx(wilson(7, 10))
    assert human["interval"] == pytest.approx([0.3968, 0.8922], abs=1e-4)  # tabulated
    assert human["accuracy_interval"] == pytest.approx(wilson(9, 20))
    assert (result["n_generated"], result["n_real"], result["generated"]) == (10, 10, "a run")


def test_files_are_pooled_and_told_apart(tmp_path, capsys) -> None:
    one = saved(tmp_path, "one.json", sitting(2, 10, 10, 10))
    two = saved(tmp_path, "two.json", sitting(30, 40, 20, 38, page="f" * 16, n=80))
    out = tmp_path / "deep" / "result.json"
    result = results(capsys, one, two, "--out", str(out))
    human = result["metrics"]["human"]
    assert human["value"] == pytest.approx(32 / 50)
    assert human["accuracy"] == pytest.approx((8 + 10 + 10 + 20) / 98)
    assert human["sittings"] == 2
    assert [entry["value"] for entry in result["files"]] == [0.2, 0.75]
    assert [entry["file"] for entry in result["files"]] == [one, two]
    assert any("2 different pages" in text for text in result["warnings"])
    assert any("78 of 80" in text for text in result["warnings"])
    assert json.loads(out.read_text()) == result
    assert main(["evaluate", "--human-results", one, two]) == 0
    text = capsys.readouterr().out
    assert "fooling rate 64.0%" in text
    assert "\x1b" not in text


def test_a_gate_on_people(tmp_path, capsys) -> None:
    file = saved(tmp_path, "a.json", sitting(7, 10, 6, 10))
    assert results(capsys, file, "--require", "human>=0.7")["gates"][0]["met"]
    failed = results(capsys, file, "--require", "human.accuracy<0.4", code=3)
    assert failed["error"]["code"] == 3
    assert results(capsys, file, "--require", "fid<3", code=2)["error"]["code"] == 2


def test_without_a_generated_picture_there_is_no_fooling_rate(tmp_path, capsys) -> None:
    human = results(capsys, saved(tmp_path, "a.json", sitting(0, 0, 3, 4)))["metrics"]["human"]
    assert (human["value"], human["interval"], human["accuracy"]) == (None, None, 0.75)


GOOD = sitting(1, 2, 1, 2)
FIRST = GOOD["answers"][0]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ([1, 2], "object"),
        (GOOD | {"format": "other"}, "format"),
        (GOOD | {"answers": []}, "answers"),
        (GOOD | {"answers": [FIRST | {"answer": "perhaps"}]}, "answers.0.answer"),
        (GOOD | {"answers": [FIRST | {"seconds": -1.0}]}, "answers.0.seconds"),
        (GOOD | {"answers": [FIRST, FIRST]}, "at most once"),
        (GOOD | {"answers": [FIRST | {"trial": 9}]}, "at most once"),
        (GOOD | {"page": INJECTION}, "page"),
        (GOOD | {"name": "me"}, "name"),
        ({key: value for key, value in GOOD.items() if key != "seed"}, "seed"),
    ],
)
def test_a_malformed_file_is_refused_with_the_reason(node, said, tmp_path, capsys) -> None:
    good = saved(tmp_path, "good.json", GOOD)
    error = results(capsys, good, saved(tmp_path, "bad.json", node), code=4)["error"]
    assert error["thing"].endswith("bad.json")
    assert said in error["reason"]
    assert len(error["reason"]) < 500


def test_the_same_file_twice_or_none_is_refused(tmp_path, capsys) -> None:
    file = saved(tmp_path, "a.json", GOOD)
    again = saved(tmp_path, "b.json", GOOD)
    assert "same answers" in results(capsys, file, again, code=4)["error"]["reason"]
    assert results(capsys, str(tmp_path / "none.json"), code=4)["error"]["code"] == 4
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    assert "UTF-8" in results(capsys, str(tmp_path / "bytes.json"), code=4)["error"]["reason"]
