"""Pages of the documentation site that have their source elsewhere: README, the notebook, the AsyncAPI document."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
COPIES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
_PAGES = {source: page for page, source in COPIES.items()}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
_PICTURE = re.compile(r"(!\[[^\]]*\]\()docs/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in COPIES.items():
        text = _PICTURE.sub(r"\1", (ROOT / source).read_text("utf-8"))
        files.append(File.generated(config, page, content=_within(text, Path(source).parent)))
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text("utf-8"))
    files.append(File.generated(config, "tutorial.md", content=_cells(notebook)))
    files.append(File.generated(config, "asyncapi.html", content=_asyncapi()))
    files.remove(next(file for file in files if file.src_uri == "tutorial.ipynb"))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    return markdown if page.file.src_uri in COPIES else _within(markdown, Path("docs"))


def _within(text: str, folder: Path) -> str:
    """Let links lead to pages of the site; what is a file of the repository becomes its name."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        path = (ROOT / folder / target).resolve().relative_to(ROOT).as_posix()
        page = _PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        if page.endswith((".md", ".html", ".svg", ".png")):
            return f"[{words}]({page}{anchor})"
        return f"{words} (`{path}`)" if path not in words else f"`{path}`"

    return _LINK.sub(link, text)


def _asyncapi() -> str:
    """Return the page of docs/asyncapi.yaml."""
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, ROOT / "scripts" / "asyncapi-html", folder], check=True)
        return (Path(folder) / "asyncapi.html").read_text("utf-8")


def _cells(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: its words, its code, and what that printed."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _parts(cell))


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        yield source
        return
    yield f"```python\n{source}\n```"
    if printed := "".join(text for output in cell["outputs"] for text in output.get("text", ())):
        yield f'```text title="prints"\n{printed.rstrip()}\n```'
