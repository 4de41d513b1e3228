"""The documentation site is built without a warning, needs no network, and the tutorial says what it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
# what a browser fetches by itself; a link is fetched by people
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}


class Fetches(HTMLParser):
    """Collects the addresses that a page has fetched when it is viewed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        wanted = told.get(FETCHED.get(tag, ""))
        if tag == "link" and told.get("rel") in {"stylesheet", "icon", "preconnect", "preload"}:
            wanted = told.get("href")
        if wanted:
            self.found.append(wanted)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_of_the_docs_is_in_the_site(site) -> None:
    """A page that nobody linked is a warning, which ends the build; what was dropped silently shows here."""
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in site.glob("*.html")}


def test_a_page_needs_no_network(site) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        fetches = Fetches()
        fetches.feed(page.read_text("utf-8"))
        assert [address for address in fetches.found if re.match(r"(https?:)?//", address)] == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet.name


def test_a_browser_shows_a_page_with_its_drawing(site) -> None:
    """With the network cut off, in a browser as readers have it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "no browser: apt-get install chromium"
    dom = subprocess.run(
        [
            *(
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--virtual-time-budget=3000",
                "--dump-dom",
            ),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            (site / "concepts.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout
    for drawing in (site / "drawings").glob("*.svg"):
        assert ET.parse(drawing).getroot().tag.endswith("svg")
    assert "The wavefront" in dom
    assert 'src="drawings/wavefront.svg"' in dom


async def test_the_tutorial_prints_what_it_shows() -> None:
    """The notebook runs from top to bottom, and its outputs are those that are shown."""
    from tutorial import NOTEBOOK, executed  # noqa: PLC0415  of scripts/, which is no package

    shown = nbformat.read(NOTEBOOK, as_version=4)
    ran = await executed()
    assert [_printed(cell) for cell in ran.cells] == [_printed(cell) for cell in shown.cells]
    assert any(_printed(cell) for cell in shown.cells)


def _printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))
