"""The files of a batch's results: what is noted is safe on disk, and what is not noted is cut off again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from backtalk.batches.store import Store
from backtalk.client.batchfile import BadFile


class Outputs:
    """The output file, and the one of errors where a batch has one. Use it as a context manager.

    Bytes past those that the store knows of were written by a process that died before it noted them: their answers
    were not acknowledged, and come again.
    """

    def __init__(self, store: Store) -> None:
        facts = store.facts()
        self._unsafe: set[BinaryIO] = set()
        self._files = {False: _open(store.plan.output, facts.output_bytes)}
        if store.plan.errors is not None:
            self._files[True] = _open(store.plan.errors, facts.error_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, line: bytes, *, failed: bool) -> tuple[bool, int, int]:
        """Write a line; returns whether it went among the errors, and where it begins and ends."""
        aside = failed and True in self._files
        file = self._files[aside]
        place = file.tell()
        file.write(line)
        self._unsafe.add(file)
        return aside, place, place + len(line)

    def secure(self) -> None:
        """Return when all that was written would outlast a power cut."""
        while self._unsafe:
            file = self._unsafe.pop()
            file.flush()
            os.fsync(file.fileno())


def order(store: Store) -> None:
    """Write the results beside their files again, in the order of the requests."""
    for aside, path in _paths(store):
        with path.open("rb") as source, _ordered(path).open("wb") as file:
            for place in store.written(aside=aside):
                source.seek(place)
                file.write(source.readline())
            file.flush()
            os.fsync(file.fileno())


def put_in_order(store: Store) -> None:
    """Have the ordered results take the place of the others; what was done before is done."""
    for _, path in _paths(store):
        if _ordered(path).exists():
            _ordered(path).replace(path)


def _paths(store: Store) -> Iterator[tuple[bool, Path]]:
    yield False, store.plan.output
    if store.plan.errors is not None:
        yield True, store.plan.errors


def _ordered(path: Path) -> Path:
    return path.with_name(f"{path.name}.ordered")


def _open(path: Path, length: int) -> BinaryIO:
    """Open a file behind so many bytes that were noted; raises BadFile where they are gone."""
    if length > (path.stat().st_size if path.exists() else 0):
        raise BadFile(f"{path}: lacks results that were written to it; put it back, or begin another batch")
    path.touch()
    file = path.open("r+b")
    file.truncate(length)
    file.seek(length)
    return file
