"""One table for people: what was measured, beside what it was held against."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True)
class Limit:
    """A target: `value` is at most, or at least, `bound`."""

    value: float
    bound: float
    at_least: bool = False
    unit: str = ""

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound:g}{self.unit}"

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Row:
    measurement: str
    backtalk: str
    bare_fast: str = ""
    sdk_defaults: str = ""
    textgrad: str = ""
    ratio: str = ""
    target: str = ""
    met: str = ""


@dataclass(frozen=True)
class Figures:
    """One figure of each of the three workers."""

    backtalk: float
    bare_fast: float
    sdk_defaults: float

    @property
    def to_fast(self) -> float:
        return self.backtalk / self.bare_fast

    @property
    def to_defaults(self) -> float:
        return self.backtalk / self.sdk_defaults

    def row(self, measurement: str, digits: int, limits: Sequence[Limit]) -> Row:
        backtalk, fast, defaults = (f"{each:.{digits}f}" for each in astuple(self))
        ratio = f"{self.to_fast:.2f} x, {self.to_defaults:.2f} x"
        target, met = judged(limits)
        return Row(measurement, backtalk, fast, defaults, ratio=ratio, target=target, met=met)


def judged(limits: Sequence[Limit]) -> tuple[str, str]:
    """The target and met cells of a row with these limits."""
    target = ", ".join(str(limit) for limit in limits)
    return target, "yes" if all(limit.met for limit in limits) else "NO"


def rendered(rows: Sequence[Row]) -> str:
    """Columns that no row has anything in are left out."""
    header = tuple(field.name.replace("_", " ") for field in fields(Row))
    every = [astuple(row) for row in rows]
    kept = [column for column in range(len(header)) if any(row[column] for row in every)]
    cells = [tuple(line[column] for column in kept) for line in (header, *every)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(kept))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
