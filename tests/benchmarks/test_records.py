"""What the README says of speed is what was recorded."""

from __future__ import annotations

from pathlib import Path

import records

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_the_records():
    text = README.read_text()
    shown = text.split("<!-- speed -->\n")[1].split("\n<!-- end of speed -->")[0]
    assert shown == records.table()


def test_every_record_says_what_it_was_made_with():
    for name in ("training", "training-one-thread", "data", "evaluation", "pixelcnn_sampling"):
        found = records.record(name)
        assert found["torch"] >= "2.11"
        assert found["threads"] in (1, 2)
