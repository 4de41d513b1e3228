"""What the documentation shows is what a user gets."""

import re
from pathlib import Path

import pytest

from backtalk.asyncapi.properties import PROPERTIES
from backtalk.local.render import as_text, rendered
from backtalk.transport.envelope import ACCEPT_ENCODING

ROOT = Path(__file__).parents[2]
SHOWN = re.findall(r"```\n(── message 1.*?)\n```", (ROOT / "docs/tools.md").read_text("utf-8"), re.DOTALL)
JOB = (ROOT / "examples/weather.json").read_bytes()


@pytest.mark.parametrize(("mode", "shown"), list(zip(("inject", "native"), SHOWN, strict=True)))
def test_the_views_of_a_model_are_what_render_prints(monkeypatch, mode, shown):
    """docs/tools.md shows the two modes as the command shows them."""
    monkeypatch.setenv("BACKTALK_TOOL_MODE", mode)
    (body,) = rendered(JOB).bodies.values()
    assert as_text(body) == shown


@pytest.mark.parametrize("name", [*PROPERTIES, ACCEPT_ENCODING])
def test_the_readme_says_what_a_sender_sets(name):
    """Every property that a message carries has its row."""
    table = (
        (ROOT / "README.md").read_text("utf-8").partition("### What a sender sets")[2].partition("\n## ")[0]
    )
    assert re.search(rf"^\| (?:header )?`{name}` \|", table, re.MULTILINE)
