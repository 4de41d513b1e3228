"""The guide to programs, run from top to bottom."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs/programs.md"


def test_the_guide_runs_as_it_stands(program, tmp_path, monkeypatch, capsys):
    """Every block of code, one after the other, as somebody would who reads it; what it says it prints is printed."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)
    printed = capsys.readouterr().out
    promised = re.findall(r"print\(.*\)  # ([^\w\[]?.*)$", "".join(blocks), re.MULTILINE)
    shown = [line for line in promised if not line.startswith("prompt_tokens")]
    assert len(shown) == 6
    assert [line for line in shown if line not in printed] == []
    assert "capital" in names["translator"].prompt.data
    assert (tmp_path / "response.json").exists()
