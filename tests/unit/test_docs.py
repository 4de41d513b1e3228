"""What the documentation shows is what a user gets."""

import re
from pathlib import Path

import pytest

from backtalk.local.render import as_text, rendered

ROOT = Path(__file__).parents[2]
SHOWN = re.findall(r"```\n(── message 1.*?)\n```", (ROOT / "docs/tools.md").read_text("utf-8"), re.DOTALL)
JOB = (ROOT / "examples/weather.json").read_bytes()


@pytest.mark.parametrize(("mode", "shown"), list(zip(("inject", "native"), SHOWN, strict=True)))
def test_the_views_of_a_model_are_what_render_prints(monkeypatch, mode, shown):
    """docs/tools.md shows the two modes as the command shows them."""
    monkeypatch.setenv("BACKTALK_TOOL_MODE", mode)
    (body,) = rendered(JOB).bodies.values()
    assert as_text(body) == shown
