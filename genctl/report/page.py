"""Self-contained HTML pages: one file, no network, nothing in it that a browser would run but ours.

What a page shows comes from runs and configurations of unknown origin. Three things keep it text:
the templates escape every value; the page's own Content-Security-Policy names the hashes of the one
style sheet and the one script that may act, so that nothing injected would; and it forbids every
connection, so that nothing on the page can be sent anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from genctl import __version__
from genctl.engine.run_directory import write_atomically
from genctl.errors import UsageError
from genctl.reading import open_regular

MARK = "genctl"
"""Content of the meta tag ``generator``, by which a page of ours is known."""
_LOOKED_AT = 4096  # bytes at the beginning of a file, in which that tag stands


def render(name: str, values: Mapping[str, Any]) -> str:
    """A page as text.

    Args:
        name: ``name.html`` is the template; ``page.css`` and ``name.css`` its style, ``name.js``
            its script.
        values: what the template shows; every text is escaped.
    """
    pages = _pages()
    style = "\n".join(_source(f"{part}.css") for part in ("page", name))
    script = _source(f"{name}.js")
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return pages.get_template(f"{name}.html").render(
        **values,
        policy=policy,
        style=Markup(style),  # ours, not a run's
        script=Markup(script),
        generator=f"{MARK} {__version__}",
    )


def write(path: Path, text: str) -> None:
    """Write a page, whole or not at all; over a page of ours, never over anything else.

    Raises:
        UsageError: another file stands there.
    """
    if path.is_dir() or (path.exists() and not _is_ours(path)):
        raise UsageError(str(path), "exists and is not a page of genctl's", "--out another.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def png_uri(data: bytes, kind: str = "png") -> str:
    """The bytes of a picture as a ``data:`` address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _is_ours(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return f'name="generator" content="{MARK} '.encode() in file.read(_LOOKED_AT)
    except OSError:
        return False


@cache
def _pages() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("genctl.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    """A file of the templates' folder as it stands."""
    loader = _pages().loader
    assert loader is not None
    return loader.get_source(_pages(), name)[0].rstrip("\n")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
