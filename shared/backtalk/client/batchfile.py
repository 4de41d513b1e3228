"""Batch files in OpenAI's form: requests in, results out, and the journal that makes a second run cheap."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import Any, Final, Self

from backtalk.client.inbox import AnyAnswer
from backtalk.wire.codec import encode, pack, parse, validate
from backtalk.wire.errors import Refused
from backtalk.wire.jobs import CompletionJob, CompletionResult

URL: Final = "/v1/chat/completions"
_IDS: Final = uuid.UUID("0c8e5b6e-93b0-5c57-9a2e-7d1c5c7f7b52")


class BadFile(ValueError):
    """Raised when a batch file cannot be used; the message names file, line and remedy."""


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch file: where it lies, its custom id, and the job id that derives from both."""

    custom_id: str
    id: str
    offset: int


@dataclass(frozen=True, slots=True)
class Requests:
    """A batch file that was read once, whole and good; only the lines' places are kept."""

    path: Path
    digest: str
    lines: tuple[Line, ...]

    def job(self, line: Line) -> CompletionJob:
        """Return the job of a line."""
        with self.path.open("rb") as file:
            file.seek(line.offset)
            return validate(parse(file.readline())["body"], CompletionJob)


def read_requests(path: Path) -> Requests:
    """Check every line of a batch file before anything is sent; raises BadFile."""
    digest = _digest(path)
    lines: dict[str, Line] = {}
    offset = 0
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                custom_id = _check(text, f"{path}:{number}")
                if custom_id in lines:
                    raise BadFile(f"{path}:{number}: custom_id {custom_id!r} stands twice; make it unique")
                lines[custom_id] = Line(custom_id, uuid.uuid5(_IDS, f"{digest}\n{custom_id}").hex, offset)
            offset += len(text)
    if not lines:
        raise BadFile(f"{path}: holds no requests; write one JSON object a line")
    return Requests(path, digest, tuple(lines.values()))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(text: bytes, place: str) -> str:
    try:
        request = parse(text)
        custom_id = request.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            raise BadFile(f"{place}: custom_id is missing; give each line one")
        if request.get("url", URL) != URL:
            raise BadFile(f"{place}: url {request['url']!r} is not supported; use {URL}")
        pack(encode(validate(request.get("body"), CompletionJob)), compress=True)
    except Refused as refused:
        raise BadFile(f"{place}: {refused}") from refused
    return custom_id


def result_line(answer: AnyAnswer, custom_id: str) -> bytes:
    """Return a result in OpenAI's batch form; what Backtalk adds stands under `backtalk`."""
    assert isinstance(answer, CompletionResult)
    done = answer.status != "failed"
    told = json.loads(answer.model_dump_json(exclude={"completions", "schema_version", "id", "error"}))
    line: dict[str, Any] = {
        "id": answer.id,
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": answer.id, "body": _body(answer)} if done else None,
        "error": answer.error.model_dump(mode="json") if answer.error else None,
        "backtalk": told,
    }
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _body(answer: CompletionResult) -> dict[str, Any]:
    if len(answer.completions) == 1:
        return answer.completions[0]
    return {"object": "list", "data": list(answer.completions)}


@dataclass(slots=True)
class Progress:
    """What a run knows on disk: the results so far, and beside them the ids whose sending was confirmed.

    Use it as a context manager. Raises BadFile where the results belong to other requests.
    """

    requests: Requests
    out: Path
    done: dict[str, int] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    failed: int = 0
    _vouched: bool = False
    _results: BufferedRandom = field(init=False)
    _journal: BufferedRandom = field(init=False)

    @property
    def journal(self) -> Path:
        return self.out.with_name(f"{self.out.name}.journal")

    def __enter__(self) -> Self:
        if self.out.resolve() == self.requests.path.resolve():
            raise BadFile(f"{self.out}: is the file of the requests; choose another --out")
        self._results = _open(self.out)
        self._journal = _open(self.journal)
        # the journal first: only a file that it vouches for may lose a last line that was cut off
        self._read_journal()
        self._read_results()
        return self

    def __exit__(self, *exc: object) -> None:
        self._results.close()
        self._journal.close()

    def note_sent(self, id: str) -> None:
        self.sent.add(id)
        _append(self._journal, f"{id}\n".encode())

    def note_done(self, id: str, line: bytes, *, failed: bool) -> None:
        self.failed += failed
        self.done[id] = self._results.seek(0, os.SEEK_END)
        _append(self._results, line)

    def finish(self) -> None:
        """Put the results into the order of the requests and drop the journal."""
        ordered = self.out.with_name(f"{self.out.name}.ordered")
        with ordered.open("wb") as file:
            for line in self.requests.lines:
                self._results.seek(self.done[line.id])
                file.write(self._results.readline())
        ordered.replace(self.out)
        self.journal.unlink()

    def _read_results(self) -> None:
        known = {line.id for line in self.requests.lines}
        for offset, text in _whole_lines(self._results, mend=self._vouched):
            id, failed = _told_by(text)
            if id not in known:
                raise BadFile(
                    f"{self.out}: holds results of other requests than {self.requests.path}; choose another --out"
                )
            self.done[id] = offset
            self.failed += failed

    def _read_journal(self) -> None:
        lines = [text.decode(errors="replace").strip() for _, text in _whole_lines(self._journal, mend=True)]
        self._vouched = bool(lines)
        if not lines:
            _append(self._journal, f"{self.requests.digest}\n".encode())
        elif lines[0] != self.requests.digest:
            raise BadFile(
                f"{self.journal}: belongs to other requests than {self.requests.path}; choose another --out, "
                "or delete it"
            )
        self.sent.update(lines[1:])


def _told_by(text: bytes) -> tuple[str, bool]:
    """Return the id in a line of results, and whether the request failed; a foreign line has no id of ours."""
    try:
        line = parse(text)
    except Refused:
        return "", False
    return str(line.get("id")), line.get("response") is None


def _open(path: Path) -> BufferedRandom:
    path.touch()
    return path.open("r+b")


def _whole_lines(file: BufferedRandom, *, mend: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their offsets; a last one that was cut off by a crash is removed if we may `mend`."""
    file.seek(0)
    offset = 0
    for text in iter(file.readline, b""):
        if mend and not text.endswith(b"\n"):
            file.truncate(offset)
            return
        yield offset, text
        offset += len(text)


def _append(file: BufferedRandom, text: bytes) -> None:
    file.seek(0, os.SEEK_END)
    file.write(text)
    file.flush()
