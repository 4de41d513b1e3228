"""What docs/guarantees.md promises has the tests that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(test_\w+)`", (ROOT / "docs/guarantees.md").read_text("utf-8"))
NAMES = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_exists(name):
    assert name in NAMES
