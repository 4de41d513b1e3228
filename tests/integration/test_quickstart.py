"""The quickstart, run as it stands, and the page that explains it."""

import json
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples/quickstart.py"


def test_the_quickstart_learns(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = runpy.run_path(str(PROGRAM))
    print(capsys.readouterr())
    print((tmp_path / "checkpoint/metrics.jsonl").read_text())
    print(names["fit"])
    assert 0
