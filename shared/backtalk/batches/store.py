"""The state of one batch in an SQLite file: nothing of it is held in memory, and a crash loses no step that was taken."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self

from backtalk.batches.state import Facts, Form, Line, Plan, Result, Status
from backtalk.client.batchfile import BadFile
from backtalk.wire.usage import total

_PATIENCE_SECONDS: Final = 30.0
_AT_ONCE: Final = 1000
_SIDES: Final = ("", "-wal", "-shm", ".lock")
_PLAN: Final = (
    "id",
    "namespace",
    "stream",
    "input",
    "digest",
    "output",
    "errors",
    "form",
    "window_seconds",
)
_FACTS: Final = tuple(Facts.__dataclass_fields__)


class Store:
    """One batch on disk; several processes may read it, and one at a time should write results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # where there is none, none is made
            there = f"{path.absolute().as_uri()}?mode=rw"
            self._db = sqlite3.connect(there, timeout=_PATIENCE_SECONDS, isolation_level=None, uri=True)
            self._db.execute("PRAGMA journal_mode = WAL")
            # what is acknowledged afterwards has to be there after a power cut as well
            self._db.execute("PRAGMA synchronous = FULL")
            self.plan = self._plan()
        except sqlite3.DatabaseError as error:
            raise BadFile(f"{path}: is no state of a batch ({error}); choose another place") from error

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Self:
        """Begin a batch, which is validating; a state that was there before is replaced.

        It is there as a whole or not at all.
        """
        remove(path)
        begun = path.with_name(f"{path.name}.new")
        begun.unlink(missing_ok=True)
        values = {
            **{name: getattr(plan, name) for name in _PLAN},
            "input": str(plan.input),
            "output": str(plan.output),
            "errors": None if plan.errors is None else str(plan.errors),
            "form": plan.form.value,
            "created_at": time.time(),
            "status": Status.VALIDATING.value,
        }
        with closing(sqlite3.connect(begun, isolation_level=None)) as db:
            db.executescript(f"BEGIN;\n{files(__package__).joinpath('schema.sql').read_text('utf-8')}COMMIT;")
            names = ", ".join(values)
            db.execute(
                f"INSERT INTO batch (only, {names}) VALUES (0{', ?' * len(values)})",  # noqa: S608  names of ours
                tuple(values.values()),
            )
        begun.replace(path)
        return cls(path)

    def close(self) -> None:
        self._db.close()

    def _plan(self) -> Plan:
        names = ", ".join(_PLAN)
        row = self._db.execute(f"SELECT {names} FROM batch").fetchone()  # noqa: S608
        if row is None:
            raise sqlite3.DatabaseError("it is empty")
        told = dict(zip(_PLAN, row, strict=True))
        return Plan(
            **told
            | {
                "input": Path(told["input"]),
                "output": Path(told["output"]),
                "errors": Path(told["errors"]) if told["errors"] else None,
                "form": Form(told["form"]),
            }
        )

    def facts(self) -> Facts:
        """Return how far the batch has come by now."""
        row = self._db.execute(f"SELECT {', '.join(_FACTS)} FROM batch").fetchone()  # noqa: S608
        told = dict(zip(_FACTS, row, strict=True))
        return Facts(
            **told
            | {
                "status": Status(told["status"]),
                "usage": json.loads(told["usage"]),
                "problems": json.loads(told["problems"]),
            }
        )

    def note(self, **facts: Any) -> None:
        """Set some of the facts."""
        names = ", ".join(f"{name} = ?" for name in facts)
        self._db.execute(f"UPDATE batch SET {names}", tuple(facts.values()))  # noqa: S608

    def note_problems(self, problems: Sequence[Mapping[str, Any]]) -> None:
        """Note that the input is bad, and that this is the end of the batch."""
        self.note(status=Status.FAILED, ended_at=time.time(), problems=json.dumps(problems))

    def add(self, lines: Iterator[tuple[str, int, str | None]]) -> Iterator[str]:
        """Add the lines of the input, by custom id, place and endpoint; yields each custom id that was there before."""
        self._db.execute("BEGIN")
        number = 0
        for custom_id, place, endpoint in lines:
            try:
                self._db.execute(
                    "INSERT INTO line (number, custom_id, place, endpoint) VALUES (?, ?, ?, ?)",
                    (number, custom_id, place, endpoint),
                )
                number += 1
            except sqlite3.IntegrityError:
                yield custom_id
            if number % _AT_ONCE == 0:
                # whoever wants to cancel it meanwhile need not wait
                self._db.execute("COMMIT")
                self._db.execute("BEGIN")
        self._db.execute("UPDATE batch SET total = ?", (number,))
        self._db.execute("COMMIT")

    def line(self, number: int) -> Line | None:
        """Return a line that has no result yet; None for one that has, and for a number of no line."""
        return next((line for line in self.open_lines(number, 1) if line.number == number), None)

    def open_lines(self, start: int = 0, limit: int = _AT_ONCE) -> list[Line]:
        """Return the first lines from `start` on that have no result yet."""
        query = (
            "SELECT number, custom_id, place, endpoint FROM line "
            "WHERE number >= ? AND failed IS NULL ORDER BY number LIMIT ?"
        )
        return [Line(*row) for row in self._db.execute(query, (start, limit))]

    def outstanding(self, before: int) -> int:
        """Return how many of the lines before a number have no result yet."""
        query = "SELECT count(*) FROM line WHERE number < ? AND failed IS NULL"
        return int(self._db.execute(query, (before,)).fetchone()[0])

    def written(self, *, aside: bool) -> Iterator[int]:
        """Yield where the results begin in one of the two files, in the order of the input."""
        query = "SELECT written FROM line WHERE failed IS NOT NULL AND aside = ? ORDER BY number"
        for (place,) in self._db.execute(query, (aside,)):
            yield place

    @contextmanager
    def step(self) -> Iterator[None]:
        """Have all that is noted in the block noted at once, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def note_results(self, results: Sequence[Result]) -> None:
        """Note results whose bytes are safe in their files, with all that they change, in one step."""
        with self.step():
            facts = self.facts()
            sizes = {False: facts.output_bytes, True: facts.error_bytes}
            for one in results:
                sizes[one.aside] = one.end
                self._db.execute(
                    "UPDATE line SET failed = ?, aside = ?, written = ? WHERE number = ?",
                    (one.failed, one.aside, one.place, one.number),
                )
            failed = sum(one.failed for one in results)
            costs = [facts.cost, *(one.cost for one in results)]
            self.note(
                completed=facts.completed + len(results) - failed,
                failed=facts.failed + failed,
                expired=facts.expired + sum(one.expired for one in results),
                output_bytes=sizes[False],
                error_bytes=sizes[True],
                usage=json.dumps(total((facts.usage, *(one.usage for one in results)))),
                cost=None if None in costs else sum(cost for cost in costs if cost is not None),
            )


def lock_of(path: Path) -> Path:
    """Return the file that whoever works on a batch holds locked."""
    return path.with_name(f"{path.name}.lock")


def remove(path: Path) -> None:
    """Delete a state, with what SQLite keeps beside it."""
    for side in _SIDES:
        path.with_name(path.name + side).unlink(missing_ok=True)
