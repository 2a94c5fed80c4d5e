"""The generated page of presets, and the records it is made from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from genctl.config import presets
from genctl.config.catalogue import PresetInfo, catalogue
from genctl.errors import DataError
from genctl.report.presets_table import current_table, render_table
from genctl.report.recorded import read_result, read_results

RECORD = {
    "preset": "vae",
    "data": "mnist:ROOT, 60,000 images",
    "steps": 20000,
    "images": 2560000,
    "seconds": 420.5,
    "seeds": [0],
    "device": "2 cores, AMX",
    "precision": "bf16",
    "metrics": {"test nats (IW bound, k = 128)": 91.25},
    "command": "genctl train --preset vae --data mnist:ROOT",
    "date": "2025-01-31",
}


def record(folder: Path, name: str = "vae.json", **changes: object) -> Path:
    node = {k: v for k, v in {**RECORD, **changes}.items() if v is not None}
    path = folder / name
    path.write_text(json.dumps(node))
    return path


def info(name: str, family: str = "latent", **about: str) -> PresetInfo:
    return PresetInfo(name, family, about, ["sample"], None, Path(f"presets/{family}/{name}.yaml"))


def test_the_committed_page_is_the_generated_one() -> None:
    page = presets.folder() / "README.md"
    assert page.read_text(encoding="utf-8") == current_table(), "run `genctl presets table`"


def test_every_preset_stands_in_the_page_with_a_link_that_leads_somewhere() -> None:
    page = current_table()
    links = re.findall(r"\| \[`([a-z0-9-]+)`\]\(([^)]+)\) \|", page)
    assert [name for name, _ in links] == [
        i.name for i in sorted(catalogue().values(), key=lambda i: (i.family, i.name))
    ]
    for name, link in links:
        assert (presets.folder() / link).resolve() == presets.paths()[name].resolve()


def test_the_committed_records_are_valid_and_name_presets() -> None:
    for name, results in read_results(presets.folder() / "results").items():
        assert name in presets.paths()
        assert all(result.metrics for result in results)


def test_a_record_becomes_a_cell_and_its_absence_is_said(tmp_path) -> None:
    result = read_result(
        record(tmp_path, published={"IWAE, Burda 2016, nats": 86.76}, note="a | b")
    )
    page = render_table(
        [info("vae", paper="arXiv:1312.6114, eq. 10"), info("ae")], {"vae": [result]}
    )
    (row,) = [line for line in page.splitlines() if line.startswith("| [`vae`]")]
    assert "**test nats (IW bound, k = 128) 91.25**" in row
    assert "20,000 steps, 2,560,000 images, 7 min on 2 cores, AMX, bf16, seed 0, 2025-01-31" in row
    assert "`genctl train --preset vae --data mnist:ROOT`" in row
    assert "*published: IWAE, Burda 2016, nats 86.76*" in row
    assert "[arXiv:1312.6114](https://arxiv.org/abs/1312.6114), eq. 10" in row
    assert r"a \| b" in row
    assert row.replace(r"\|", "").count("|") == 5
    assert "| [`ae`](latent/ae.yaml) |  |  | not yet measured |" in page


def test_pictures_make_a_gallery(tmp_path) -> None:
    (tmp_path / "vae.png").write_bytes(b"picture")
    result = read_result(record(tmp_path, picture="vae.png"))
    page = render_table([info("vae")], {"vae": [result]})
    assert "![vae](results/vae.png)" in page
    assert "## Gallery" not in render_table([info("vae")], {})


def test_results_of_one_comparison_stand_in_one_table(tmp_path) -> None:
    heading = "Nats after a minute"
    results = {
        "vae": [
            read_result(
                record(
                    tmp_path,
                    "vae-wide.json",
                    comparison=heading,
                    variant="wide",
                    metrics={"nats": 90.0, "seen": 3},
                    spread={"nats": 0.25},
                    seeds=[0, 1],
                )
            )
        ],
        "ae": [
            read_result(
                record(tmp_path, "ae.json", preset="ae", comparison=heading, metrics={"nats": 99.5})
            )
        ],
    }
    page = render_table([info("ae"), info("vae")], results)
    table = page[page.index(f"## {heading}") :].splitlines()
    assert table[2:6] == [
        "| | nats | seen | seeds | seconds each |",
        "|---|---|---|---|---|",
        "| `ae` | 99.5 |  | 1 | 420 |",
        "| `vae`, wide | 90 ± 0.25 | 3 | 2 | 420 |",
    ]
    assert "**nats 90 ± 0.25**" in page


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"spread": {"fid": 1.0}}, "spread: fid is no metric"),
        ({"variant": 3}, "variant: expected text"),
        ({"metrics": None}, "metrics: missing"),
        ({"metrics": {}}, "metrics: expected finite numbers"),
        ({"metrics": {"fid": "low"}}, "metrics: expected finite numbers"),
        ({"metrics": {"fid": float("nan")}}, "metrics: expected finite numbers"),
        ({"metric": {}}, "metric: unknown key; did you mean 'metrics'?"),
        ({"steps": 0}, "steps: expected a whole number"),
        ({"seconds": "fast"}, "seconds: expected a time"),
        ({"seeds": []}, "seeds: expected a list"),
        ({"date": "yesterday"}, "date: expected a date"),
        ({"preset": "gan"}, "must begin with its name"),
        ({"picture": "nowhere.png"}, "no file nowhere.png"),
        ({"device": " "}, "device: expected text"),
    ],
)
def test_a_wrong_record_is_refused(changes, expected, tmp_path) -> None:
    with pytest.raises(DataError, match=re.escape(expected)):
        read_result(record(tmp_path, **changes))


def test_all_problems_of_a_record_are_named_at_once(tmp_path) -> None:
    with pytest.raises(DataError) as caught:
        read_result(record(tmp_path, steps=-1, date="soon", extra=1, command=None))
    assert caught.value.exit_code == 4
    for key in ("steps", "date", "extra", "command"):
        assert f"{key}:" in caught.value.reason


def test_a_record_of_an_unknown_preset_and_a_damaged_file_are_refused(tmp_path) -> None:
    record(tmp_path, "vaae.json", preset="vaae")
    with pytest.raises(DataError, match="no preset is called 'vaae'; did you mean 'vae'"):
        read_results(tmp_path)
    (tmp_path / "vaae.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path)
