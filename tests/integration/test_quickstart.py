"""The quickstart, run as it stands, and the page that explains it."""

import json
import re
import runpy
from pathlib import Path

import pytest

from backtalk import load

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples/quickstart.py"
PAGE = ROOT / "docs/quickstart.md"
PICTURE = ROOT / "docs/quickstart.svg"


@pytest.mark.usefixtures("program")
def test_the_quickstart_learns(tmp_path, monkeypatch, capsys):
    """Accuracy on e-mails that it never saw rises, all files are there, and the picture is that of the page."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    names = runpy.run_path(str(PROGRAM))
    fit, left = names["fit"], tmp_path / "checkpoint"
    assert (names["before"], names["after"]) == ({"score": 0.0}, {"score": 1.0})
    assert "accuracy 0% before, 100% after 6 steps" in capsys.readouterr().out
    assert (fit.reason, fit.best) == ("patience", 1.0)
    best = load(left / "best.json")["agent"]["parameters"]["prompt"]["data"]
    assert best == names["classifier"].prompt.data
    assert best != names["Classifier"]().prompt.data
    told = [json.loads(line) for line in (left / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert len({line["run"] for line in told}) == 3
    assert (left / "learning.svg").read_bytes() == PICTURE.read_bytes()


def test_the_page_explains_the_whole_program():
    """Its blocks of code, one after the other, are the file."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    code = PROGRAM.read_text("utf-8").partition('"""\n')[2]
    assert "".join(blocks).split() == code.split()
