"""What users import has types: programs that are right pass a strict type checker, wrong ones do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_public_interface_has_types() -> None:
    """`public_types.py` is checked, never run; each error it expects is expected in vain if it does not come."""
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/architecture/public_types.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
