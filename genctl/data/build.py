"""From encoded files to one uint8 array: decoded on all cores, checked, ordered, cached.

Rows are ordered by the content hash of their file, the official test part last. The held-out share
is then a slice for every value of ``data.holdout``, stays where it is when files are added, and
never parts two copies of one file.
"""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np

from genctl.data import cache
from genctl.data.cache import Index
from genctl.data.decoding import FileSource, Progress, Transform, decode_all
from genctl.data.folder import Listing
from genctl.data.rough import IsTest, Rough, check_broken, free_scratch
from genctl.errors import DataError, UsageError

CACHE_FROM_FILES = 1000
CACHE_FROM_BYTES = 8 * 2**20
"""Smaller sets are decoded each time: it takes less than a second."""
_UNREAD = {".wav": "sound", ".mp4": "video", ".avi": "video", ".webm": "video"}


def decoded_files(
    source: FileSource,
    listing: Listing | None,
    transform: Transform,
    thing: str,
    *,
    is_test: IsTest,
    strict: bool = False,
    progress: Progress | None = None,
) -> tuple[np.ndarray, Index, list[str]]:
    """All usable images of a source, from the cache if it has them.

    The key of an entry says whether anything changed: for an archive its own state does, for a
    folder that of every file.

    Args:
        source: where the files are.
        listing: what was found there; None for an archive, which is listed only if needed.
        transform: size and crop.
        thing: the data set, for messages.
        is_test: which of the given names belong to the official test part, or None.
        strict: refuse any broken file.
        progress: told how many files of how many are done.

    Returns:
        ``(N, C, H, W)`` uint8, the index of its rows, and warnings.

    Raises:
        DataError: nothing usable, too much broken, or several sizes where one was expected.
        UsageError: sound or video instead of images.
    """
    key = _key(source, listing, transform)
    notes: list[str] = []
    entry = cache.load(key)
    if entry is None:
        listing = listing if listing is not None else source.listing()
        _refuse_empty(listing, thing)
        small = len(listing.names) < CACHE_FROM_FILES and listing.total_bytes < CACHE_FROM_BYTES
        if small or cache.limit_bytes() == 0:
            rough = decode_all(source, listing, transform, thing, None, strict, progress)
            entry = rough.in_memory(is_test)
        else:
            entry = _build(source, listing, transform, thing, key, is_test, strict, progress, notes)
    images, index = entry
    if index.broken:
        check_broken(index.broken, len(index.names) + len(index.broken), strict, thing)
    return images, index, notes


def _build(
    source: FileSource,
    listing: Listing,
    transform: Transform,
    thing: str,
    key: str,
    is_test: IsTest,
    strict: bool,
    progress: Progress | None,
    notes: list[str],
) -> tuple[np.ndarray, Index]:
    """Decode under the entry's lock and write it; in memory where the disk does not take it."""
    with cache.building(key) as scratch:
        entry = cache.load(key)  # another process may have built it while this one waited
        if entry is not None:
            return entry
        decoded = partial(decode_all, source, listing, transform, thing)
        if scratch is None:
            rough = decoded(None, strict, progress, "cannot be written")
            notes.append(f"{cache.cache_folder()} cannot be written: the images stay in memory")
            return rough.in_memory(is_test)
        found: Rough | None = None
        try:
            found = decoded(scratch, strict, progress)
        except OSError as error:  # of the scratch file: one of an image is the image's reason
            full = error.strerror or str(error)
        if found is None:  # memory may have the room that the disk has not
            free_scratch(scratch)
            found = decoded(None, strict, progress, full)
        rough = found
        order = rough.order(is_test)
        index = rough.index(order)
        try:
            cache.store(key, rough.blocks(order), rough.shape, index)
        except OSError as error:
            reason = error.strerror or str(error)
            notes.append(
                f"no cache in {cache.cache_folder()} ({reason}): the images stay in memory"
            )
            rough.disk = reason
            return rough.in_memory(is_test)
        entry = cache.load(key)
        return entry if entry is not None else rough.in_memory(is_test)


def _refuse_empty(listing: Listing, thing: str) -> None:
    if listing.names:
        return
    for suffix, kind in _UNREAD.items():
        if listing.ignored[suffix]:
            reason = f"holds {listing.ignored[suffix]:,} {suffix} files, and {kind} is not read yet"
            raise UsageError(thing, reason, "expected images")
    total = sum(listing.ignored.values())
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in listing.ignored.most_common(4))
    found = f"holds no image, only {total:,} other files ({kinds})" if total else "is empty"
    raise DataError(thing, found, "expected image files such as .png or .jpg")


def _key(source: FileSource, listing: Listing | None, transform: Transform) -> str:
    digest = hashlib.blake2b(digest_size=16)
    crop = transform.crop if transform.size != "native" else "none"
    digest.update(
        f"{cache.VERSION}|{source.key}|{transform.size}|{crop}".encode(errors="surrogatepass")
    )
    if listing is not None and listing.stamp:
        for texts in (listing.names, listing.stamp):
            digest.update(f"\0\0{len(texts)}\0".encode())
            digest.update("\0".join(texts).encode(errors="surrogatepass"))
    return digest.hexdigest()
