"""The requests of a batch: every line checked before anything is sent, then read again one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TypeAlias

from backtalk.batches.state import Line
from backtalk.batches.store import Store
from backtalk.client.batchfile import BadFile
from backtalk.wire.codec import encode, pack, parse, validate
from backtalk.wire.errors import Refused
from backtalk.wire.jobs import CompletionJob

URL: Final = "/v1/chat/completions"
METHOD: Final = "POST"
MOST_PROBLEMS: Final = 20

Place: TypeAlias = tuple[str, int, str | None]


class BadRequests(BadFile):
    """Raised for a file with bad lines: `problems` are in the form of OpenAI's batch errors."""

    def __init__(self, path: Path, problems: list[dict[str, Any]]) -> None:
        places = (f"{path}:{one['line']}" if one["line"] else f"{path}" for one in problems)
        super().__init__(
            "\n".join(f"{place}: {one['message']}" for place, one in zip(places, problems, strict=True))
        )
        self.problems = problems


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(slots=True)
class _Check:
    on_bytes: Callable[[int], None]
    problems: list[dict[str, Any]] = field(default_factory=list)
    at: int = 0

    def lines(self, file: BinaryIO) -> Iterator[Place]:
        """Yield the good lines by custom id, place and endpoint; stops where there are enough bad ones."""
        place = 0
        for self.at, text in enumerate(file, start=1):
            if text.strip() and (good := self._checked(text)):
                yield good[0], place, good[1]
            place += len(text)
            self.on_bytes(place)
            if len(self.problems) >= MOST_PROBLEMS:
                return

    def bad(self, code: str, message: str, param: str | None = None) -> None:
        self.problems.append({"code": code, "message": message, "param": param, "line": self.at or None})

    def _checked(self, text: bytes) -> tuple[str, str | None] | None:
        try:
            request = parse(text)
        except Refused as refused:
            self.bad("invalid_json_line", str(refused))
            return None
        custom_id = request.get("custom_id")
        if not isinstance(custom_id, str) or not custom_id:
            wrong = (
                "is missing; give each line one"
                if custom_id in (None, "")
                else "is no text; put it in quotes"
            )
            self.bad("missing_required_parameter", f"custom_id {wrong}", "custom_id")
        elif request.get("method", METHOD) != METHOD:
            self.bad(
                "invalid_method", f"method {request['method']!r} is not supported; use {METHOD}", "method"
            )
        elif request.get("url", URL) != URL:
            self.bad("invalid_url", f"url {request['url']!r} is not supported; use {URL}", "url")
        else:
            return self._job(request, custom_id)
        return None

    def _job(self, request: Mapping[str, Any], custom_id: str) -> tuple[str, str | None] | None:
        try:
            job = validate(request.get("body"), CompletionJob)
            pack(encode(job), compress=True)
        except Refused as refused:
            self.bad("invalid_request", str(refused), refused.error.details.get("path"))
            return None
        return custom_id, job.backtalk.endpoint


def check(store: Store, on_bytes: Callable[[int], None] = lambda _: None) -> None:
    """Check every line of a batch's input and have the store know them; raises BadRequests."""
    checking = _Check(on_bytes)
    with store.plan.input.open("rb") as file:
        for custom_id in store.add(checking.lines(file)):
            checking.bad(
                "duplicate_custom_id", f"custom_id {custom_id!r} stands twice; make it unique", "custom_id"
            )
    if not store.facts().total and not checking.problems:
        checking.at = 0
        checking.bad("empty_file", "holds no requests; write one JSON object a line")
    if checking.problems:
        raise BadRequests(store.plan.input, checking.problems)


class Requests:
    """The jobs of a file that was checked; raises BadFile where it was changed since. Use it as a context manager."""

    def __init__(self, store: Store) -> None:
        path = store.plan.input
        if digest(path) != store.plan.digest:
            raise BadFile(f"{path}: was changed since the batch began; put it back, or begin another batch")
        self._file = path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def job(self, line: Line) -> CompletionJob:
        self._file.seek(line.place)
        return validate(parse(self._file.readline())["body"], CompletionJob)
