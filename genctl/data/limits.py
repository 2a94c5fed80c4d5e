"""Bounds on what data of unknown origin may ask for."""

from __future__ import annotations

import os

MAX_CLASSES = 65_536
"""More classes than this are no classes: a label for nearly every image, say."""
MAX_METADATA_BYTES = 128 * 2**20
"""Of all metadata files of a source together: two million captions of 60 characters."""
MAX_METADATA_LINE = 2**20
"""Characters of one line of metadata: parsed, `[{}, {}, …` takes twenty times its length."""
_OTHERWISE = 16 * 2**30


def physical_memory() -> int:
    """Bytes of this machine's memory; 16 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return _OTHERWISE
