"""What programs could observe of Afnio is the same here, or docs/afnio.md says what is not and why."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = {
    row.strip(): (of, here)
    for rows, of, here in re.findall(
        r"^\| ([VGOECMTD]\d[^|]*) \| ([^|]*) \| ([^|]*) \|$",
        (ROOT / "docs/afnio.md").read_text("utf-8"),
        re.MULTILINE,
    )
    for row in rows.split(",")
}
COUNTS = {"V": 16, "G": 10, "O": 5, "E": 9, "C": 15, "M": 6, "T": 8, "D": 4}
NAMES = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
}


def test_every_row_is_there():
    """No row is left out, and none is invented."""
    assert set(ROWS) == {
        f"{kind}{number}" for kind, count in COUNTS.items() for number in range(1, count + 1)
    }


@pytest.mark.parametrize("row", [row for row, (_, here) in ROWS.items() if here.startswith("same")])
def test_a_row_that_is_the_same_has_a_test_of_its_name(row):
    """Who claims that something is the same has looked."""
    assert any(row.lower() in name.split("_") for name in NAMES)
