"""A process that dies at a chosen call to the operating system, played without a process.

After the fatal call nothing works any more, so no clean-up of the dying can help.
"""

from __future__ import annotations

import os
import pathlib
import shutil

CALLS = ("open", "mkdir", "rename", "replace", "symlink", "unlink", "rmdir", "fsync")


class Death(BaseException):
    """The process is no more."""


class Fatal:
    """Lets ``lives`` calls to the system through and dies at the next, for good."""

    def __init__(self, monkeypatch, lives):
        self.lives, self.calls = lives, []
        for name in CALLS:
            monkeypatch.setattr(os, name, self._guarded(name, getattr(os, name)))
        opened = pathlib.Path.open

        def open_(path, mode="r", *arguments, **more):
            if mode[0] in "wa":
                self.tick("create", path)
                return Torn(self, path, opened(path, mode, *arguments, **more))
            return opened(path, mode, *arguments, **more)

        monkeypatch.setattr(pathlib.Path, "open", open_)

    def tick(self, name, *arguments):
        if self.lives == 0:
            raise Death
        self.lives -= 1
        self.calls.append((name, *arguments))

    def _guarded(self, name, original):
        def call(*arguments, **more):
            self.tick(name, *arguments)
            return original(*arguments, **more)

        return call


class Torn:
    """A file whose writes reach the disk in two pieces."""

    def __init__(self, fatal, path, file):
        self.fatal, self.path, self.file = fatal, path, file

    def write(self, content):
        half = len(content) // 2
        for piece in (content[:half], content[half:]):
            self.fatal.tick("write", self.path)
            self.file.write(piece)
            self.file.flush()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def deaths(monkeypatch, folder, prepare, work):
    """Die in the work on what was prepared at its first call, its second, … until it survives."""
    prepare()
    before = folder.rename(folder.with_name("before"))
    for lives in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder, symlinks=True)
        with monkeypatch.context() as patch:
            fatal = Fatal(patch, lives)
            try:
                work()
            except Death:
                pass
            else:
                assert lives >= 5
                return
        yield lives, fatal.calls
    raise AssertionError("it never ends")
